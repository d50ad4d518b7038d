"""Events as flows see them: CloudEvents in JSON, filters that they pass or not, and what is read of them.

Source: dsl-reference.md, "Event Properties", "Event Filter"; https://github.com/cloudevents/spec, v1.0.2, spec.md,
"Context Attributes", and formats/json-format.md, "Handling of Data".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson

from flowhook import cloud_events
from flowhook.errors import InvalidError
from flowhook.expressions import is_expression, strip
from flowhook.model import EventFilter
from flowhook.payloads import is_json
from runner.interpreter import data as json
from runner.interpreter.errors import ExpressionFailed, Kind, fault
from runner.interpreter.nodes import Link, Pattern, Strategy
from runner.interpreter.ports import Compiler, Template
from runner.interpreter.scope import Scope

_TEXTS: Final = frozenset({"subject", "time", "datacontenttype", "dataschema"})
"""Attributes that are strings, but may be missing."""

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")

_ANYTHING: Final = Pattern(EventFilter(callback=False, type=""), (), ())


def cloud_event(given: Any, event_id: str, source: str) -> dict[str, Any]:
    """Return the event that is emitted.

    Args:
        given: attributes and data, as the task has them; null stands for an attribute that is not there.
        event_id: its ID, when none is given.
        source: when none is given.

    Raises:
        TaskFault: that is no event (configuration), or too large (runtime).
    """
    if not isinstance(given, dict):
        raise fault(Kind.CONFIGURATION, "`emit.event.with` is not an object")
    event = {"specversion": cloud_events.SPEC_VERSION, "id": event_id, "source": source}
    event |= {name: value for name, value in given.items() if value is not None or name == "data"}
    try:
        cloud_events.parse(json.encode_result(event, "the event"))
    except InvalidError as problem:
        raise fault(Kind.CONFIGURATION, problem.message) from None
    for name in _TEXTS & event.keys():
        if not isinstance(event[name], str) or not event[name]:
            raise fault(Kind.CONFIGURATION, f"no CloudEvent: its {name} is a string that is not empty")
    if not _TIME.fullmatch(event.get("time", "")):
        raise fault(Kind.CONFIGURATION, "no CloudEvent: its time is as RFC 3339 has it")
    return event


def compile_strategy(strategy: Mapping[str, Any], compiler: Compiler, callbacks: Collection[str]) -> Strategy:
    """Compile `one`, `any` or `all`.

    Args:
        strategy: as written.
        compiler: of expressions.
        callbacks: names of the flow's; a filter for events of such a type is for callbacks.
    """
    filters = [strategy["one"]] if "one" in strategy else strategy.get("any", strategy.get("all"))
    patterns = tuple(_pattern(each, compiler, callbacks) for each in filters or ())
    return Strategy(patterns or (_ANYTHING,), all="all" in strategy)


def _pattern(written: Mapping[str, Any], compiler: Compiler, callbacks: Collection[str]) -> Pattern:
    attributes = written["with"]
    literals = {
        name: value
        for name, value in attributes.items()
        if name != "data" and isinstance(value, str) and not is_expression(value)
    }
    kind = literals.pop("type", "")
    tests = [
        (name, _test(value, compiler))
        for name, value in attributes.items()
        if name not in literals and not (name == "type" and kind)
    ]
    links = [
        Link(
            name,
            strip(each["from"]),
            compiler.expression(each["from"]),
            None if each.get("expect") is None else compiler.template(each["expect"]),
        )
        for name, each in (written.get("correlate") or {}).items()
    ]
    literal = EventFilter(kind in callbacks, kind, tuple(sorted(literals.items())))
    return Pattern(literal, tuple(tests), tuple(links))


def _test(value: Any, compiler: Compiler) -> Template:
    """Compile what an attribute has to be: an expression may be a predicate as well."""
    template = compiler.template(value)
    may_be_predicate = is_expression(value)

    def test(data: Any, scope: Scope) -> bool:
        expected = template(data, scope)
        if may_be_predicate and isinstance(expected, bool):
            return expected
        return _has(data, expected)

    return test


def passes(pattern: Pattern, event: Mapping[str, Any], scope: Scope, *, callback: bool) -> bool:
    """Whether an event has what a pattern asks for, correlations left aside; false where an expression fails on it."""
    literal = pattern.literal
    if literal.callback is not callback or (literal.type and literal.type != event.get("type")):
        return False
    if any(cloud_events.attribute(event, name) != value for name, value in literal.attributes):
        return False
    try:
        return all(test(content(event) if name == "data" else event.get(name), scope) for name, test in pattern.tests)
    except ExpressionFailed:
        return False


def value_of(link: Link, event: Mapping[str, Any], scope: Scope) -> Any:
    """Return what an event has where a correlation looks; None where there is nothing."""
    try:
        return link.value(event, scope)
    except ExpressionFailed:
        return None


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same JSON, as the router sees it."""
    try:
        return cloud_events.canonical(left) == cloud_events.canonical(right)
    except (RecursionError, orjson.JSONEncodeError):
        return False


def read(event: Mapping[str, Any], what: str) -> Any:
    """Return an event as a `listen` reads it: its `data`, its `envelope`, or its `raw` data as text."""
    if what == "envelope":
        return event
    if what == "data":
        return content(event)
    if "data_base64" in event:
        return event["data_base64"]
    data = event.get("data")
    return data if data is None or isinstance(data, str) else json.encode(data).decode()


def content(event: Mapping[str, Any]) -> Any:
    """Return the data of an event: of binary data JSON where it is that, else text, else base64; None without data."""
    if "data_base64" not in event:
        return event.get("data")
    encoded = event["data_base64"]
    try:
        binary = base64.b64decode(encoded, validate=True)
        return orjson.loads(binary) if is_json(str(event.get("datacontenttype", ""))) else binary.decode()
    except (binascii.Error, TypeError, ValueError):
        return encoded


def _has(actual: Any, expected: Any) -> bool:
    """Whether a value is what is expected; of an object, whether it has the expected members."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return all(name in actual and _has(actual[name], value) for name, value in expected.items())
    return same(actual, expected)
