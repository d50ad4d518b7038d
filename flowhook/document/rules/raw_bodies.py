"""Refuses expressions over the body in a webhook with `parse: raw`: it is not parsed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowhook.document.codes import Code
from flowhook.document.problems import Path, Problem
from flowhook.document.rules.tree import mapping
from flowhook.expressions import InvalidExpression, is_expression, strip_markers
from flowhook.expressions.paths import paths_in

CAUSE = "`.body` is null with `parse: raw`: the body is an attachment, which only tasks can read"


def check_raw_bodies(data: dict[str, Any]) -> Iterator[Problem]:
    """Yield the expressions that read a body that is not parsed.

    Flows that were stored before this check existed still run: such an expression yields null.
    """
    webhook = mapping(data.get("webhook"))
    if webhook.get("parse") == "raw":
        execution = mapping(data.get("execution"))
        yield from _check(execution.get("order_by"), ("execution", "order_by"))
        for name, path in mapping(execution.get("search")).items():
            if isinstance(path, str) and _looks_at_body(strip_markers(path)):
                yield Problem(("execution", "search", name), Code.BODY_NOT_PARSED, CAUSE)
        yield from _check_endpoint(webhook, ("webhook",))
    for name, callback in mapping(webhook.get("callbacks")).items():
        if mapping(callback).get("parse") == "raw":
            yield from _check_endpoint(mapping(callback), ("webhook", "callbacks", name))


def _check_endpoint(endpoint: dict[str, Any], place: Path) -> Iterator[Problem]:
    yield from _check(mapping(endpoint.get("dedupe")).get("key"), (*place, "dedupe", "key"))
    respond = mapping(endpoint.get("respond"))
    for key in ("headers", "body"):
        yield from _check(respond.get(key), (*place, "respond", key))


def _check(value: object, place: Path) -> Iterator[Problem]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _check(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _check(item, (*place, index))
    elif isinstance(value, str) and is_expression(value) and _looks_at_body(strip_markers(value)):
        yield Problem(place, Code.BODY_NOT_PARSED, CAUSE)


def _looks_at_body(expression: str) -> bool:
    try:
        return any(path[:1] == ("body",) for path in paths_in(expression))
    except InvalidExpression:  # reported by the check of its shape
        return False
