"""Lints valid documents: warns about constructs that are probably mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowhook.document import lint_strings
from flowhook.document.codes import Code
from flowhook.document.event_filters import awaited_types
from flowhook.document.loader import FlowDocument
from flowhook.document.named_secrets import looks_like_value, names_of, secret_paths
from flowhook.document.problems import Problem, key_of, to_fault
from flowhook.document.source import read
from flowhook.document.task_kinds import DIRECTIVES
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
    return [f"{key_of(problem.path)}: {problem.cause}" for problem in _hints(document)]


def located_warnings(document: FlowDocument, source: bytes, *, file: str) -> list[Fault]:
    """Return the warnings with line numbers, sorted by line; `str` of each ends with the text from `warnings`.

    `document` was parsed from `source`; `file` is the name of the file in the result.
    """
    root = read(source).root
    found = [to_fault(problem, file=file, root=root) for problem in _hints(document)]
    return sorted(found, key=lambda fault: fault.line)


def _hints(document: FlowDocument) -> Iterator[Problem]:
    yield from _directives(document.definition)
    yield from lint_strings.string_warnings(document.definition)
    yield from _unawaited_callbacks(document)
    yield from _secret_values(document)
    yield from _processes(document.definition)


def _directives(definition: dict[str, Any]) -> Iterator[Problem]:
    for placed in walk_everywhere(definition):
        if placed.name in DIRECTIVES:
            cause = f"`then: {placed.name}` is a directive, and does not lead to this task: choose another name"
            yield Problem(placed.path, Code.NAME_IS_DIRECTIVE, cause)


def _unawaited_callbacks(document: FlowDocument) -> Iterator[Problem]:
    callbacks = document.webhook.callbacks if document.webhook is not None else {}
    heard = awaited_types(document.definition) if callbacks else frozenset()
    for name in callbacks:
        if name not in heard:
            cause = f"no `listen` task waits for events of type {name}"
            yield Problem(("webhook", "callbacks", name), Code.CALLBACK_NOT_AWAITED, cause)


def _secret_values(document: FlowDocument) -> Iterator[Problem]:
    names = {name for name in names_of(document) if looks_like_value(name)}
    advice = (
        "this looks like the value of a secret, and its name is expected here: set the value with "
        "`flowhook secrets set NAME`, and write the name here"
    )
    for path, _ in secret_paths(document.definition, names) if names else ():
        yield Problem(path, Code.SECRET_IS_VALUE, advice)


def _processes(definition: dict[str, Any]) -> Iterator[Problem]:
    for placed in walk_everywhere(definition):
        run = placed.task["run"] if placed.kind == "run" else {}
        for key in ("script", "shell"):
            if key in run:
                cause = "it fails on runners that are started without --allow-processes"
                yield Problem((*placed.path, "run", key), Code.PROCESS_NEEDS_PERMISSION, cause)
        if is_expression(run.get("shell", {}).get("command")):
            advice = "the shell executes whatever is in the data: pass values as `arguments`, `environment` or `stdin`"
            yield Problem((*placed.path, "run", "shell", "command"), Code.SHELL_INJECTION, advice)
