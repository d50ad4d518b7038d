"""Checks lists of tasks and of cases: each item has to be one name with a mapping below it.

The models only detect that an item is malformed. Its keys show what the author meant: names, or keys that belong below
a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from flowhook.document.codes import Code
from flowhook.document.model_types import keys_of
from flowhook.document.problems import Path, Problem
from flowhook.document.rules.tree import mapping, sequence
from flowhook.document.task_kinds import KINDS, kind_of
from flowhook.document.tasks import SwitchCase, models_of_tasks


def _task_keys() -> frozenset[str]:
    return frozenset(keys_of(models_of_tasks().values()))


@dataclass(frozen=True, slots=True)
class ItemKind:
    """Kind of the items in a list.

    Attributes:
        noun: word for an item in messages.
        keys: keys allowed below the name of an item.
        telling: those keys of which each identifies an item of this kind.
    """

    noun: str
    keys: frozenset[str]
    telling: frozenset[str]


TASKS: Final = ItemKind("task", _task_keys(), frozenset(KINDS))
CASES: Final = ItemKind("case", frozenset(keys_of([SwitchCase])), frozenset({"when", "then"}))


def check_items(items: object, path: Path, kind: ItemKind) -> Iterator[Problem]:
    """Yield a problem for each item, or value in place of the list, with a missing or misplaced name or hyphen."""
    if isinstance(items, dict) and items:
        if kind.telling & items.keys():
            advice = f"give the {kind.noun} a name, `- {_example(items, kind)}:`, and put it below that"
        else:
            advice = f"each begins with a hyphen, as in `- {next(iter(items))}:`"
        yield Problem(path, Code.ITEM_INVALID, f"expected a list of {kind.noun}s: {advice}", at=(next(iter(items)),))
    for index, item in enumerate(sequence(items)):
        cause, *at = _cause(mapping(item), kind)
        if cause:
            yield Problem((*path, index), Code.ITEM_INVALID, cause, at=tuple(at))


def _cause(item: dict[str, Any], kind: ItemKind) -> tuple[str, ...]:
    """Return the cause of a problem, empty if the item is valid, and the key that is wrong unless it is the first."""
    below = [key for key in item if key in kind.keys]
    names = [key for key in item if key not in kind.keys]
    if len(item) == 1:
        ((name, content),) = item.items()
        if name in kind.telling and not (isinstance(content, dict) and kind.telling & content.keys()):
            return (_nameless(name, item, kind),)
        return (f"{name!r} is empty: indent its content further than its name" if content is None else "",)
    if not item:
        return ("",)
    if not kind.telling.isdisjoint(below):
        if isinstance(item.get("name"), str) and "name" in names:
            return (f"the name of a {kind.noun} is its key: write `- {item['name']}:` and put the rest below it",)
        if not names:
            return (_nameless(below[0], item, kind),)
    if len(names) == 1 and below:
        return f"{_listed(below)} to be below {names[0]!r}: indent further", below[0]
    if len(names) == len(item):
        return f"each item is one {kind.noun}: make {names[1]!r} an item of its own, `- {names[1]}:`", names[1]
    return ("",)


def _nameless(key: str, item: dict[str, Any], kind: ItemKind) -> str:
    return f"a {kind.noun} needs a name: write `- {_example(item, kind)}:` and put {key!r} below it"


def _example(item: dict[str, Any], kind: ItemKind) -> str:
    """Return an example of a name for an item that has none."""
    return f"my-{kind_of(item)}" if kind is TASKS else "my-case"


def _listed(keys: list[str]) -> str:
    quoted = [repr(key) for key in keys]
    return f"{quoted[0]} has" if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]} have"
