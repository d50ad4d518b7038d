"""Lints valid documents: warns about constructs that are probably mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowhook.document import lint_strings
from flowhook.document.event_filters import awaited_types
from flowhook.document.loader import FlowDocument
from flowhook.document.named_secrets import looks_like_value, names_of, secret_paths
from flowhook.document.problems import Path, Problem, key_of, to_fault
from flowhook.document.source import read
from flowhook.document.tasks import DIRECTIVES
from flowhook.document.walk import walk_everywhere
from flowhook.errors import Fault
from flowhook.expressions import is_expression


def warnings(document: FlowDocument) -> list[str]:
    """Return warnings for the author, each with the key that it concerns; usually empty.

    - Strings that look like expressions but are not, and conditions that are always true: see `lint_strings`.
    - A task that is named like a directive: `then` can't refer to it.
    - A callback that no `listen` task waits for: its events are buffered until they expire.
    - A secret name that looks like a secret value, which would be visible in the file and in listings.
    - A script or a shell command: it only runs if the operator of the runners allows it. A command that is an
      expression executes whatever is in the data.
    """
    return [f"{key_of(path)}: {text}" for path, text in _hints(document)]


def located_warnings(document: FlowDocument, source: bytes, *, file: str) -> list[Fault]:
    """Return the warnings with line numbers, sorted by line; `str` of each ends with the text from `warnings`.

    Args:
        document: the document parsed from `source`.
        source: the flow file.
        file: name of the file in the result.
    """
    root = read(source).root
    found = [to_fault(Problem(path, text), file=file, root=root) for path, text in _hints(document)]
    return sorted(found, key=lambda fault: fault.line)


def _hints(document: FlowDocument) -> Iterator[tuple[Path, str]]:
    yield from _directives(document.definition)
    yield from lint_strings.string_warnings(document.definition)
    yield from _unawaited_callbacks(document)
    yield from _secret_values(document)
    yield from _processes(document.definition)


def _directives(definition: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    for placed in walk_everywhere(definition):
        if placed.name in DIRECTIVES:
            yield (
                placed.path,
                f"`then: {placed.name}` does not lead to a task of that name: it is a directive",
            )


def _unawaited_callbacks(document: FlowDocument) -> Iterator[tuple[Path, str]]:
    callbacks = document.webhook.callbacks if document.webhook is not None else {}
    heard = awaited_types(document.definition) if callbacks else frozenset()
    for name in callbacks:
        if name not in heard:
            yield ("webhook", "callbacks", name), f"no `listen` task waits for events of type {name}"


def _secret_values(document: FlowDocument) -> Iterator[tuple[Path, str]]:
    names = {name for name in names_of(document) if looks_like_value(name)}
    advice = (
        "this looks like a secret's value, and what stands here is its name: set the value with "
        "`flowhook secrets set NAME`, and name it here"
    )
    for path, _ in secret_paths(document.definition, names) if names else ():
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
