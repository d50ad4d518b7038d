"""What a valid document says that its author hardly means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowhook.document import texts
from flowhook.document.filters import awaited_types
from flowhook.document.loader import FlowDocument
from flowhook.document.named_secrets import looks_like_value, names_of, places_of
from flowhook.document.problems import Path, Problem, key_of, to_fault
from flowhook.document.source import read
from flowhook.document.tasks import DIRECTIVES
from flowhook.document.walk import walk_everywhere
from flowhook.errors import Fault
from flowhook.expressions import is_expression


def warnings(document: FlowDocument) -> list[str]:
    """Return what to tell the author, each with the key it is about; empty as a rule.

    - Texts that look like expressions and are none, and conditions that always hold: see `texts`.
    - A task whose name `then` can't mean, for it is what ends a list or the flow.
    - A callback that no `listen` task waits for: what comes for it is kept until it expires.
    - The name of a secret that looks like its value, which stands in a file and is shown in lists then.
    - A script or a command: whether it is run is for the operator of the runners to say. A command made by an
      expression runs whatever is in the data.
    """
    return [f"{key_of(path)}: {text}" for path, text in _hints(document)]


def located_warnings(document: FlowDocument, source: bytes, *, file: str) -> list[Fault]:
    """Return the same with lines, in their order; what `str` says of each ends with what `warnings` has.

    Args:
        document: that was made of `source`.
        source: the flow file.
        file: how the file is named.
    """
    root = read(source).root
    found = [to_fault(Problem(path, text), file=file, root=root) for path, text in _hints(document)]
    return sorted(found, key=lambda fault: fault.line)


def _hints(document: FlowDocument) -> Iterator[tuple[Path, str]]:
    yield from _directives(document.definition)
    yield from texts.hints(document.definition)
    yield from _unheard(document)
    yield from _valuable(document)
    yield from _processes(document.definition)


def _directives(definition: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    for placed in walk_everywhere(definition):
        if placed.name in DIRECTIVES:
            yield (
                placed.path,
                f"`then: {placed.name}` does not lead to a task of that name: it is a directive",
            )


def _unheard(document: FlowDocument) -> Iterator[tuple[Path, str]]:
    callbacks = document.webhook.callbacks if document.webhook is not None else {}
    heard = awaited_types(document.definition) if callbacks else frozenset()
    for name in callbacks:
        if name not in heard:
            yield ("webhook", "callbacks", name), f"no `listen` task waits for events of type {name}"


def _valuable(document: FlowDocument) -> Iterator[tuple[Path, str]]:
    names = {name for name in names_of(document) if looks_like_value(name)}
    advice = (
        "this looks like a secret's value, and what stands here is its name: set the value with "
        "`flowhook secrets set NAME`, and name it here"
    )
    for path, _ in places_of(document.definition, names) if names else ():
        yield path, advice


def _processes(definition: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    for placed in walk_everywhere(definition):
        run = placed.task["run"] if placed.kind == "run" else {}
        for key in ("script", "shell"):
            if key in run:
                yield (
                    (*placed.path, "run", key),
                    "it fails on runners that were not started with --allow-processes",
                )
        if is_expression(run.get("shell", {}).get("command")):
            advice = "the shell runs whatever is in the data: hand values over as `arguments`, `environment` or `stdin`"
            yield (*placed.path, "run", "shell", "command"), advice
