"""Lints valid documents: warns about constructs that are probably mistakes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from flowhook.document import lint_strings
from flowhook.document.codes import Code
from flowhook.document.event_filters import awaited_types
from flowhook.document.loader import FlowDocument
from flowhook.document.named_secrets import looks_like_value, names_of, secret_paths
from flowhook.document.problems import Path, Problem, key_of, to_fault
from flowhook.document.source import read
from flowhook.document.task_kinds import DIRECTIVES
from flowhook.document.walk import walk_everywhere
from flowhook.errors import Fault
from flowhook.expressions import is_expression
from flowhook.security.address_policy import Address, AddressPolicy

_DESTINATIONS: Final = frozenset({"endpoint", "host", "uri", "url"})
"""Keys below `with` that say whom a call reaches."""

_CONTENT: Final = frozenset({"arguments", "body", "headers", "parameters", "query"})
"""Keys below `with` that say what it sends."""


def warnings(document: FlowDocument, *, policy: AddressPolicy = AddressPolicy.PUBLIC) -> list[str]:
    """Return warnings for the author, each with the key that it concerns; usually empty.

    - Strings that look like expressions but are not, and conditions that are always true: see `lint_strings`.
    - A task that is named like a directive: `then` can't refer to it.
    - A callback that no `listen` task waits for: its events are buffered until they expire.
    - A secret name that looks like a secret value, which would be visible in the file and in listings.
    - A script or a shell command: it only runs if the operator of the runners allows it. A command that is an
      expression executes whatever is in the data.
    - A call to an address that runners refuse under `policy`.
    """
    return [f"{key_of(problem.path)}: {problem.cause}" for problem in _hints(document, policy)]


def located_warnings(
    document: FlowDocument, source: bytes, *, file: str, policy: AddressPolicy = AddressPolicy.PUBLIC
) -> list[Fault]:
    """Return the warnings with line numbers, sorted by line; `str` of each ends with the text from `warnings`.

    `document` was parsed from `source`; `file` is the name of the file in the result.
    """
    root = read(source).root
    found = [to_fault(problem, file=file, root=root) for problem in _hints(document, policy)]
    return sorted(found, key=lambda fault: fault.line)


def _hints(document: FlowDocument, policy: AddressPolicy) -> Iterator[Problem]:
    yield from _directives(document.definition)
    yield from lint_strings.string_warnings(document.definition)
    yield from _unawaited_callbacks(document)
    yield from _secret_values(document)
    yield from _processes(document.definition)
    yield from _destinations(document.definition, policy)


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


def _destinations(definition: dict[str, Any], policy: AddressPolicy) -> Iterator[Problem]:
    """Report literal hosts that runners refuse. What a name or an expression leads to is seen when the flow runs."""
    for placed in walk_everywhere(definition):
        if placed.kind != "call":
            continue
        for path, text in _named_destinations(placed.task.get("with"), (*placed.path, "with")):
            host = _host(text)
            address = _address(host)
            if address is not None and not policy.permits(address):
                local = AddressPolicy.LOOPBACK.permits(address)
                cause = (
                    f"{host} is {'this machine' if local else 'a private address'}: runners call it only with"
                    f" --allow-{'loopback' if local else 'private'}-addresses"
                )
                yield Problem(path, Code.ADDRESS_NOT_ALLOWED, cause)


def _named_destinations(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the strings in the arguments of a call that name whom it reaches."""
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key in _DESTINATIONS and isinstance(item, str):
            yield (*path, key), item
        elif key not in _CONTENT:
            yield from _named_destinations(item, (*path, key))


def _host(text: str) -> str:
    """Return the host of a URL, or of `host:port`; empty: it is an expression, or none can be found."""
    if is_expression(text):
        return ""
    try:
        return urlsplit(text if "://" in text else f"//{text}").hostname or ""
    except ValueError:
        return ""


def _address(host: str) -> Address | None:
    """Return the address that a host is, or that it always stands for (RFC 6761, section 6.3)."""
    if host == "localhost" or host.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
