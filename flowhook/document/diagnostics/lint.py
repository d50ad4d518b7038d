"""Lints valid documents: warns about constructs that are probably mistakes.

In strict mode a string is an expression only if all of it is `${ … }`. Anything similar is a literal string.

Source: dsl.md, "Runtime Expressions"; dsl-reference.md, "URI Template", "Try", "Catch", "Retry", "Standard Error
Types".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from flowhook.document.catalogs import read_flow
from flowhook.document.definition import (
    DIRECTIVES,
    NAMED_LISTS,
    PlacedTask,
    awaited_types,
    value_at,
    walk,
    walk_everywhere,
)
from flowhook.document.diagnostics.data_flow import data_flow_warnings
from flowhook.document.diagnostics.problems import Code, Path, Problem, suggestion, to_fault
from flowhook.document.loader import FlowDocument
from flowhook.document.models.calls import COMPONENT_ARGUMENTS, FUNCTION_ARGUMENTS
from flowhook.document.named_secrets import looks_like_value, names_of, secret_paths
from flowhook.errors import Fault
from flowhook.expressions.syntax import is_expression, strip_markers
from flowhook.model.error_types import ERROR_TYPE_BASE, NAMESPACES, Kind, is_standard, spellings, standard_type
from flowhook.security.address_policy import Address, AddressPolicy

_LITERAL: Final = frozenset({"document", "schema", "metadata"})
"""Keys below which nothing is evaluated, so that strings there need no check."""

_DATA: Final = frozenset({"set", "with", "body"})
"""Keys whose values are data: keys inside them have no meaning in the DSL."""

_CONDITIONS: Final = frozenset({"if", "when", "exceptWhen", "while", "until"})
_BARE: Final = _CONDITIONS | {"in", "from", "as"}  # keys whose strings are expressions even without `${ }`
_PATHS: Final = ("execution", "search")  # the mapping whose values are paths, written without `${ }`

_INSIDE: Final = re.compile(r"\$\{.*?\}", re.DOTALL)
_IN_CODE: Final = re.compile(r"\$\{\s*\.[^}]*\}")
"""In code, `${name}` is syntax of the language itself, unless the name begins with a dot."""

_WITHOUT: Final = re.compile(
    r"\.[A-Za-z_]\w*((\.|\[)\S*)?|\$(context|error|index|input|item|output|runtime|secrets|task|workflow)\b\S*|\{\{[^{}]*\}\}"
)
_INSIDE_VARIABLE: Final = re.compile(
    r"\$(?:context|error|input|item|output|runtime|secrets|task|workflow)(?:\.[A-Za-z_]\w*|\[[^\]]*\])+"
)
_OTHER_TEMPLATE: Final = re.compile(r"\{\{[^{}]*\}\}")  # how Mustache, Handlebars, Jinja and n8n insert values
_REQUEST_VARIABLE: Final = re.compile(
    r"\$(?P<name>body|event|headers|json|method|path|payload|query|request)\b(?P<rest>(?:\.[A-Za-z_]\w*|\[[^\]]*\])*)"
)
"""How other tools call what came in. Here it is the input."""
_REQUEST_FIELDS: Final = {"json": ".body", "payload": ".body", "event": "", "request": ""}

_INTERPOLATION: Final = re.compile(r"\\\([.$][^()]*\)")
_IN_PROGRAM: Final = re.compile(r"\$\{\s*[.$\w][^}\"]*\}")
"""In a program that compiles, this can only occur inside a string."""

_STRING: Final = re.compile(r'"(?:\\.|[^"\\])*"|#[^\n]*', re.DOTALL)
_ASSIGNMENT: Final = re.compile(r"(?<![=!<>|+\-*/%])=(?!=)")
_VARIABLE: Final = re.compile(r"\{([^A-Za-z0-9_{}][^{}]*)\}")

_MAX_QUOTED: Final = 60


def string_warnings(definition: dict[str, Any]) -> Iterator[Problem]:
    for path, text, is_data in _texts(definition, (), is_data=False, is_named=False):
        if path[: len(_PATHS)] == _PATHS:
            continue
        key = path[-1] if path else ""
        if key in _BARE and not is_data:
            if key in _CONDITIONS and _ASSIGNMENT.search(_STRING.sub("", strip_markers(text))):
                cause = f"{_quoted(text)} is always true: `=` assigns; write `==` to compare"
                yield Problem(path, Code.ALWAYS_TRUE, cause)
            continue
        hint = _of_expression(text) if is_expression(text) else _of_text(path, text)
        if hint:
            yield Problem(path, Code.NOT_AN_EXPRESSION, hint)


def _of_expression(text: str) -> str:
    program = strip_markers(text)
    if found := _IN_PROGRAM.search(program):
        advice = "is not evaluated inside an expression: write \\(.name) to insert a value into a string"
        return f"{_quoted(found[0])} {advice}"
    literals = (each[0] for each in _STRING.finditer(program) if each[0].startswith('"'))
    found = next(filter(None, (_INSIDE_VARIABLE.search(_INTERPOLATION.sub("", each)) for each in literals)), None)
    return f"{_quoted(found[0])} is not evaluated inside a string: write \\({found[0]})" if found else ""


def _of_text(path: Path, text: str) -> str:
    code = path[-3:] in (("run", "shell", "command"), ("run", "script", "code"))
    stripped = text.strip()
    if found := (_IN_CODE if code else _INSIDE).search(text):
        whole = stripped == found[0]
        advice = "${ … } around all of it" if whole else '${ "… \\(.name) …" } to insert a value'
        return f"{_quoted(found[0])} is not evaluated: only a whole string is an expression; write {advice}"
    if code:
        return ""
    if stripped.startswith("${") and stripped != "${":
        advice = "is not an expression: the closing `}` is missing; after ` #`, YAML begins a comment"
        return f"{_quoted(stripped)} {advice}"
    if _WITHOUT.fullmatch(stripped):
        return f"{_quoted(stripped)} is a literal string; as an expression, write ${{ {stripped.strip('{} ')} }}"
    if found := _INTERPOLATION.search(text):
        return f'{_quoted(found[0])} has a meaning only inside expressions: write ${{ "… \\(.name) …" }}'
    if path[:2] != ("webhook", "auth") and (hint := _of_placeholder(text, stripped)):
        return hint
    if "://" in text and (found := _VARIABLE.search(text)):
        advice = f"is replaced by the property {found[1]!r} of the task's input, and not evaluated as an expression"
        return f"{_quoted(found[0])} {advice}"
    return ""


def _of_placeholder(text: str, stripped: str) -> str:
    """Return a hint about what other tools, or expressions, would replace by a value."""
    if found := _OTHER_TEMPLATE.search(text):
        return f'{_quoted(found[0])} is not evaluated, here is no such template: write ${{ "… \\(.name) …" }}'
    if found := _REQUEST_VARIABLE.search(text):
        field = _REQUEST_FIELDS.get(found["name"], f".{found['name']}") + found["rest"] or "."
        whole = f"${{ {field} }}" if stripped == found[0] else f'${{ "… \\({field}) …" }}'
        return f"{_quoted(found[0])} is no variable: the request is the input of the first task, so write {whole} there"
    if found := _INSIDE_VARIABLE.search(text):
        whole = f'${{ "… \\({found[0]}) …" }}'
        return f"{_quoted(found[0])} is not evaluated: only a whole string is an expression; write {whole}"
    return ""


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 1] + "…")


def _texts(value: Any, path: Path, *, is_data: bool, is_named: bool) -> Iterator[tuple[Path, str, bool]]:
    """Yield the strings that may be evaluated, their paths, and whether they are inside data."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in _LITERAL or is_named or is_data:
                inside = is_data or (key in _DATA and not is_named)
                yield from _texts(item, (*path, key), is_data=inside, is_named=False)
    elif isinstance(value, list):
        named = not is_data and bool(path) and path[-1] in NAMED_LISTS
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index), is_data=is_data, is_named=named)
    elif isinstance(value, str):
        yield path, value, is_data


_DESTINATIONS: Final = frozenset({"endpoint", "host", "uri", "url"})  # keys below `with` that say whom a call reaches

_CONTENT: Final = frozenset({"arguments", "body", "headers", "parameters", "query"})
"""Keys below `with` that say what it sends."""


def located_warnings(
    document: FlowDocument, source: bytes, *, file: str, policy: AddressPolicy = AddressPolicy.PUBLIC
) -> list[Fault]:
    """Return warnings for the author, sorted by line; usually empty.

    `document` was parsed from `source`; `file` is the name of the file in the result.

    - Strings that look like expressions but are not, and conditions that are always true: see `string_warnings`.
    - A task that is named like a directive: `then` can't refer to it.
    - A type of errors that a `catch` or a retry names, and that no task of its `try` can raise.
    - A callback that no `listen` task waits for: its events are buffered until they expire.
    - A secret name that looks like a secret value, which would be visible in the file and in listings.
    - A script or a shell command: it only runs if the operator of the runners allows it. A command that is an
      expression executes whatever is in the data.
    - A call to an address that runners refuse under `policy`.
    - Texts that are taken for numbers, paths outside the input, and a wait before a reply: see `data_flow`.
    """
    root = read_flow(source).root
    found = [to_fault(problem, file=file, root=root) for problem in _hints(document, policy)]
    return sorted(found, key=lambda fault: fault.line)


def _hints(document: FlowDocument, policy: AddressPolicy) -> Iterator[Problem]:
    yield from _directives(document.definition)
    yield from unraised_types(document.definition)
    yield from string_warnings(document.definition)
    yield from _unawaited_callbacks(document)
    yield from _secret_values(document)
    yield from _processes(document.definition)
    yield from _destinations(document.definition, policy)
    yield from data_flow_warnings(document)


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
    value = "this looks like the value of a secret, and its name is expected here"
    advice = f"{value}: set the value with `flowhook secrets set NAME`, and write the name here"
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
                what, option = ("this machine", "loopback") if local else ("a private address", "private")
                cause = f"{host} is {what}: runners call it only with --allow-{option}-addresses"
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
    with suppress(ValueError):
        return "" if is_expression(text) else urlsplit(text if "://" in text else f"//{text}").hostname or ""
    return ""


def _address(host: str) -> Address | None:
    """Return the address that a host is, or that it always stands for (RFC 6761, section 6.3)."""
    if host == "localhost" or host.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    with suppress(ValueError):
        return ipaddress.ip_address(host)
    return None


_ANY: Final = "*"  # stands for any type at all
_STANDARD: Final = frozenset(ERROR_TYPE_BASE + kind for kind in Kind)
_OF_CALLS: Final = frozenset(
    ERROR_TYPE_BASE + kind for kind in (Kind.AUTHENTICATION, Kind.AUTHORIZATION, Kind.COMMUNICATION, Kind.TIMEOUT)
)
"""Standard types that only what reaches out of the flow raises; a timeout has other causes, too."""

_COMPARED: Final = re.compile(r'\.type\s*==\s*"([^"\\]*)"')


def unraised_types(definition: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the types that a `catch` or a retry names, and that no task of its `try` can raise.

    What cannot be known in advance counts as any type: errors of other flows, of components of others, and those that
    an expression makes.
    """
    known = _RaisedTypes(definition)
    for placed in walk_everywhere(definition):
        named = list(_named(definition, placed)) if placed.kind == "try" else []
        raised = known.of_try(placed.task) if named else frozenset()
        for path, type_ in named:
            if type_.startswith(NAMESPACES) and not is_standard(type_) and path[-1] != "type":
                cause = f"the standard defines no error type {type_[:200]}: this is never true"
                yield Problem(path, Code.ERROR_NOT_RAISED, cause)
            elif not raised & {_ANY, standard_type(type_)}:
                alike = [each for own in raised for each in spellings(own)]
                meant = "" if is_standard(type_) else suggestion(type_, alike)
                yield Problem(path, Code.ERROR_NOT_RAISED, f"no task of this `try` can raise {type_[:200]}{meant}")


def _named(definition: Mapping[str, Any], placed: PlacedTask) -> Iterator[tuple[Path, str]]:
    """Yield the types that the `catch` of a `try` names, in its filter and in its conditions."""
    catch = placed.task.get("catch")
    type_ = value_at(catch, ("errors", "with", "type"))
    if isinstance(type_, str):
        yield (*placed.path, "catch", "errors", "with", "type"), type_
    retry = value_at(catch, ("retry",))
    shared = value_at(definition, ("use", "retries", retry)) if isinstance(retry, str) else None
    for condition, path in (
        (value_at(catch, ("when",)), ("when",)),
        (value_at(retry, ("when",)), ("retry", "when")),
        (value_at(shared, ("when",)), ("retry",)),
    ):
        # several alternatives: that one of them never comes is no mistake if others do
        found = _COMPARED.findall(condition) if isinstance(condition, str) else []
        if len(found) == 1:
            yield (*placed.path, "catch", *path), found[0]


class _RaisedTypes:
    """The types that tasks may raise; what functions raise is found once."""

    def __init__(self, definition: Mapping[str, Any]) -> None:
        self._definition = definition
        self._functions: Mapping[str, Any] = value_at(definition, ("use", "functions")) or {}
        self._known: dict[str, frozenset[str]] = {}

    def of_try(self, task: Mapping[str, Any]) -> frozenset[str]:
        if value_at(self._definition, ("use", "extensions")):
            return frozenset({_ANY})
        limited = {ERROR_TYPE_BASE + Kind.TIMEOUT} if _has_timeout(task) else frozenset()
        return self._of(task["try"]) | (_STANDARD - _OF_CALLS) | limited

    def _of(self, tasks: Any) -> frozenset[str]:
        return frozenset().union(*map(self._of_task, walk({"do": tasks})))

    def _of_function(self, name: str) -> frozenset[str]:
        if name not in self._known:
            self._known[name] = self._of([{name: self._functions[name]}])
        return self._known[name]

    def _of_task(self, placed: PlacedTask) -> frozenset[str]:
        task = placed.task
        match placed.kind:
            case "raise":
                return _of_raise(self._definition, value_at(task, ("raise", "error")))
            case "call" if task["call"] in self._functions:
                types = self._of_function(task["call"])
            case "call":
                # tasks for each message of a subscription are not looked at
                iterates = value_at(task, ("with", "subscription", "foreach")) is not None
                known = task["call"] in FUNCTION_ARGUMENTS or task["call"] in COMPONENT_ARGUMENTS
                types = _STANDARD if known and not iterates else frozenset({_ANY})
            case "run":
                types = _STANDARD if value_at(task, ("run", "workflow")) is None else frozenset({_ANY})
            case kind:
                types = _STANDARD if kind == "emit" else frozenset()
        return types | {ERROR_TYPE_BASE + Kind.TIMEOUT} if _has_timeout(task) else types


def _of_raise(definition: Mapping[str, Any], error: Any) -> frozenset[str]:
    if isinstance(error, str) and not is_expression(error):
        error = value_at(definition, ("use", "errors", error))
    type_ = value_at(error, ("type",))
    if not isinstance(type_, str) or is_expression(type_) or "{" in type_:
        return frozenset({_ANY})
    return frozenset({standard_type(type_)})


def _has_timeout(task: Mapping[str, Any]) -> bool:
    limit = value_at(task, ("catch", "retry", "limit", "attempt", "duration"))
    named = isinstance(value_at(task, ("catch", "retry")), str)
    return "timeout" in task or limit is not None or named
