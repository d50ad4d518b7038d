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
from flowhook.document.filters import is_pattern, literals
from flowhook.errors import InvalidError
from flowhook.expressions import is_expression, strip
from flowhook.lifecycle import PREFIX as LIFECYCLE_PREFIX
from flowhook.lifecycle import TYPES, is_lifecycle
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
    attributes, literal = written["with"], literals(written)
    tests = [
        (name, _match(value, compiler) if name != "data" and is_pattern(value) else _test(value, compiler))
        for name, value in attributes.items()
        if name not in literal
    ]
    told = _told(attributes["type"], compiler) if "type" in attributes and "type" not in literal else None
    kind = literal.pop("type", "")
    links = [
        Link(
            name,
            strip(each["from"]),
            compiler.expression(each["from"]),
            None if each.get("expect") is None else compiler.template(each["expect"]),
        )
        for name, each in (written.get("correlate") or {}).items()
    ]
    event_filter = EventFilter(kind in callbacks, kind, tuple(sorted(literal.items())))
    return Pattern(event_filter, tuple(tests), tuple(links), told)


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


def _match(pattern: str, compiler: Compiler) -> Template:
    """Compile a regular expression, which has to match all of an attribute; a text that is the same fits as well."""
    same_text, whole = orjson.dumps(pattern).decode(), orjson.dumps(rf"\A(?:{pattern})\z").decode()
    return compiler.expression(f". != null and (tostring | . == {same_text} or test({whole}))")


def _told(value: str, compiler: Compiler) -> Template:
    """Compile whether a `type` that is no literal asks for events about executions of a type; see `Pattern`.

    It does for the one that it yields, or, where it says which types it means, for those that it takes.
    """
    says = LIFECYCLE_PREFIX in value.replace("\\", "")
    if is_pattern(value):
        match = _match(value, compiler)
        return lambda data, scope: says and match(data, scope)
    template = compiler.template(value)

    def asks(data: Any, scope: Scope) -> bool:
        try:
            expected = template("", scope)
            if not isinstance(expected, str):
                return says and template(data, scope) is True
        except ExpressionFailed:
            return False
        if is_lifecycle(expected) and expected not in TYPES:
            raise ExpressionFailed(f"`with.type` yields {expected}, and no such event ever comes")
        return bool(expected == data)

    return asks


def told(pattern: Pattern, scope: Scope) -> tuple[str, ...]:
    """Return the types of events about executions that a pattern asks for, by an expression or a regular expression.

    Raises:
        ExpressionFailed: it yields a type of which nothing is ever told.
    """
    asks = pattern.told
    return () if asks is None else tuple(type_ for type_ in sorted(TYPES) if asks(type_, scope))


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
