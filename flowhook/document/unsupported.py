"""What the DSL has, and DESIGN promises, that Flowhook does not execute yet.

It is refused by name when a flow is applied: nothing that is written in a flow file is ever silently ignored. To
support one of these is to give it a model and a meaning in the runner, and to strike it from its table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from flowhook.document.problems import Path, Problem
from flowhook.document.tasks import kind_of

KEYS: Final[Mapping[tuple[str, ...], str]] = {
    ("evaluate",): "`evaluate` is not supported yet: expressions are jq, in strict mode",
    ("use", "catalogs"): "catalogs are not supported yet",
    ("use", "extensions"): "extensions are not supported yet",
}
"""By path from the top of a document."""

TASK_KINDS: Final[Mapping[str, str]] = {
    "run": "`run` tasks are not supported yet",
}
"""By kind of task."""

AUTHENTICATIONS: Final[Mapping[str, str]] = {
    "certificate": "certificate authentication is not supported yet; basic and bearer are",
    "digest": "digest authentication is not supported yet; basic and bearer are",
    "oauth2": "OAuth 2 authentication is not supported yet; basic and bearer are",
    "oidc": "OpenID Connect authentication is not supported yet; basic and bearer are",
}
"""By key of an authentication policy."""

FUNCTIONS: Final[Mapping[str, str]] = {
    "a2a": "A2A calls are not supported yet",
    "asyncapi": "AsyncAPI calls are not supported yet",
    "grpc": "gRPC calls are not supported yet",
    "mcp": "MCP calls are not supported yet",
    "openapi": "OpenAPI calls are not supported yet",
}
"""By name of the called function; a component of that name comes first."""


def in_document(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what a document has, outside of tasks, that is not supported yet."""
    yield from _find(KEYS, data, ())
    policies = _get(data, ("use", "authentications"))[1]
    for name, policy in policies.items() if isinstance(policies, dict) else ():
        yield from _in_authentication(policy, ("use", "authentications", name))


def in_task(task: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    """Yield what a task has that is not supported yet."""
    kind = kind_of(task)
    if kind is not None and kind in TASK_KINDS:
        yield Problem((*path, kind), TASK_KINDS[kind])
        return
    if task.get("call") == "http":
        place = ("with", "endpoint", "authentication")
        yield from _in_authentication(_get(task, place)[1], (*path, *place))


def _in_authentication(policy: object, path: Path) -> Iterator[Problem]:
    for key, cause in AUTHENTICATIONS.items():
        if isinstance(policy, dict) and key in policy:
            yield Problem((*path, key), cause)


def _find(table: Mapping[tuple[str, ...], str], data: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    for keys, cause in table.items():
        if _get(data, keys)[0]:
            yield Problem((*path, *keys), cause)


def _get(data: object, keys: tuple[str, ...]) -> tuple[bool, object]:
    for key in keys:
        if not isinstance(data, dict) or key not in data:
            return False, None
        data = data[key]
    return True, data
