"""Events in flows: construction, matching against filters, and reading of CloudEvents in JSON.

Source: dsl-reference.md, "Event Properties", "Event Filter"; https://github.com/cloudevents/spec, v1.0.2, spec.md,
"Context Attributes", and formats/json-format.md, "Handling of Data".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson

from flowhook.document.definition import RFC_3339, is_pattern, literal_attributes
from flowhook.errors import InvalidError
from flowhook.events import cloud_events
from flowhook.events.cloud_events import event_data
from flowhook.events.lifecycle import PREFIX as LIFECYCLE_PREFIX
from flowhook.events.lifecycle import TYPES, is_reserved_type
from flowhook.expressions.syntax import is_expression, strip_markers
from flowhook.model import EventFilter
from runner.interpreter import json_codec
from runner.interpreter.errors import ExpressionFailed, Kind, fault
from runner.interpreter.nodes import CompiledCorrelation, CompiledStrategy, Compiler, EventPattern, Template
from runner.interpreter.scope import ExpressionScope

_TEXTS: Final = frozenset({"subject", "time", "datacontenttype", "dataschema"})
"""Optional attributes whose values are strings."""

_ANYTHING: Final = EventPattern(EventFilter(callback=False, type=""), (), ())


def cloud_event(given: Any, event_id: str, source: str) -> dict[str, Any]:
    """Return the event to emit; null: an absent attribute. TaskFault: invalid (configuration), too large (runtime)."""
    if not isinstance(given, dict):
        raise fault(Kind.CONFIGURATION, "`emit.event.with` must be an object")
    event = {"specversion": cloud_events.SPEC_VERSION, "id": event_id, "source": source}
    event |= {name: value for name, value in given.items() if value is not None or name == "data"}
    try:
        cloud_events.parse(json_codec.encode_result(event, "the event"))
    except InvalidError as problem:
        raise fault(Kind.CONFIGURATION, problem.message) from None
    for name in _TEXTS & event.keys():
        if not isinstance(event[name], str) or not event[name]:
            raise fault(Kind.CONFIGURATION, f"not a CloudEvent: `{name}` must be a string that is not empty")
    if not RFC_3339.fullmatch(event.get("time", "")):
        raise fault(Kind.CONFIGURATION, "not a CloudEvent: `time` must be a timestamp as in RFC 3339")
    return event


def compile_strategy(strategy: Mapping[str, Any], compiler: Compiler, callbacks: Collection[str]) -> CompiledStrategy:
    """Compile `one`, `any` or `all`; a filter for events whose type is one of the `callbacks` matches callbacks."""
    filters = [strategy["one"]] if "one" in strategy else strategy.get("any", strategy.get("all"))
    patterns = tuple(_pattern(each, compiler, callbacks) for each in filters or ())
    return CompiledStrategy(patterns or (_ANYTHING,), all="all" in strategy)


def _pattern(written: Mapping[str, Any], compiler: Compiler, callbacks: Collection[str]) -> EventPattern:
    attributes, literal = written["with"], literal_attributes(written)
    tests = [
        (name, _match(value, compiler) if name != "data" and is_pattern(value) else _test(value, compiler))
        for name, value in attributes.items()
        if name not in literal
    ]
    type_is_computed = "type" in attributes and "type" not in literal
    lifecycle_type = _lifecycle_type(attributes["type"], compiler) if type_is_computed else None
    kind = literal.pop("type", "")
    links = [
        CompiledCorrelation(
            name,
            strip_markers(each["from"]),
            compiler.expression(each["from"]),
            None if each.get("expect") is None else compiler.template(each["expect"]),
        )
        for name, each in (written.get("correlate") or {}).items()
    ]
    event_filter = EventFilter(kind in callbacks, kind, tuple(sorted(literal.items())))
    return EventPattern(event_filter, tuple(tests), tuple(links), lifecycle_type)


def _test(value: Any, compiler: Compiler) -> Template:
    """Compile the test of an attribute: an expected value, or an expression that may also be a predicate."""
    template = compiler.template(value)
    may_be_predicate = is_expression(value)

    def test(data: Any, scope: ExpressionScope) -> bool:
        expected = template(data, scope)
        if may_be_predicate and isinstance(expected, bool):
            return expected
        return _has(data, expected)

    return test


def _match(pattern: str, compiler: Compiler) -> Template:
    """Compile a regular expression that must match a whole attribute; an identical text matches as well."""
    same_text, whole = orjson.dumps(pattern).decode(), orjson.dumps(rf"\A(?:{pattern})\z").decode()
    return compiler.expression(f". != null and (tostring | . == {same_text} or test({whole}))")


def _lifecycle_type(value: str, compiler: Compiler) -> Template:
    """Compile a predicate that selects the types of lifecycle events for a non-literal `type`; see `EventPattern`.

    It selects the type that an expression yields, or, if the text names types of such events, those that it matches.
    """
    names_lifecycle_type = LIFECYCLE_PREFIX in value.replace("\\", "")
    if is_pattern(value):
        match = _match(value, compiler)
        return lambda data, scope: names_lifecycle_type and match(data, scope)
    template = compiler.template(value)

    def selects(data: Any, scope: ExpressionScope) -> bool:
        try:
            expected = template("", scope)
            if not isinstance(expected, str):
                return names_lifecycle_type and template(data, scope) is True
        except ExpressionFailed:
            return False
        if is_reserved_type(expected) and expected not in TYPES:
            raise ExpressionFailed(f"`with.type` yields {expected}, but there are no lifecycle events of this type")
        return bool(expected == data)

    return selects


def lifecycle_types(pattern: EventPattern, scope: ExpressionScope) -> tuple[str, ...]:
    """Return the lifecycle types that an expression selects; ExpressionFailed: it yields one that does not exist."""
    selects = pattern.lifecycle_type
    return () if selects is None else tuple(type_ for type_ in sorted(TYPES) if selects(type_, scope))


def matches(pattern: EventPattern, event: Mapping[str, Any], scope: ExpressionScope, *, callback: bool) -> bool:
    """Whether an event matches a pattern, correlations aside; false if an expression fails on the event."""
    literal = pattern.literal
    if literal.callback is not callback or (literal.type and literal.type != event.get("type")):
        return False
    if any(cloud_events.attribute(event, name) != value for name, value in literal.attributes):
        return False
    try:
        return all(
            test(event_data(event) if name == "data" else event.get(name), scope) for name, test in pattern.tests
        )
    except ExpressionFailed:
        return False


def correlation_value(correlation: CompiledCorrelation, event: Mapping[str, Any], scope: ExpressionScope) -> Any:
    try:
        return correlation.value(event, scope)
    except ExpressionFailed:
        return None


def json_equal(left: Any, right: Any) -> bool:
    """Whether two values are the same JSON, in the canonical form that the router compares."""
    try:
        return cloud_events.canonical_json(left) == cloud_events.canonical_json(right)
    except (RecursionError, orjson.JSONEncodeError):
        return False


def _has(actual: Any, expected: Any) -> bool:
    """Whether a value equals the expected one; an object only needs to have the expected members."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return all(name in actual and _has(actual[name], value) for name, value in expected.items())
    return json_equal(actual, expected)
