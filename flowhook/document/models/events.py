"""Models of the events that a flow awaits, emits and is started by, and of its schedule.

Source: dsl-reference.md, "Event Consumption Strategy", "Event Properties", "Event Filter", "Correlation", "Schedule";
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md, "Context Attributes"; `flowhook.cron`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator, ValidationInfo, field_validator

from flowhook import limits
from flowhook.cron import MAX_LENGTH, check_cron, check_timezone
from flowhook.document.definition import RFC_3339
from flowhook.document.diagnostics.problems import Code, LocatedCause, validation_error
from flowhook.document.models import base
from flowhook.document.models.base import Model, accept, exactly_one, model_check
from flowhook.document.models.credentials import Duration
from flowhook.events.cloud_events import MAX_TYPE_LENGTH, ReadAs
from flowhook.expressions.syntax import is_expression

MAX_CORRELATIONS: Final = 16  # correlations of one filter

_ATTRIBUTE: Final = re.compile(r"[a-z0-9]{1,64}")


def _bad_names(properties: EventProperties) -> Iterator[LocatedCause]:
    names = properties.__pydantic_extra__ or {}
    for name in islice((name for name in names if name == "specversion" or not _ATTRIBUTE.fullmatch(name)), 1):
        cause = f"{name!r} is not a valid name of an attribute: use lower-case letters and digits, at most 64"
        yield (), Code.NAME_INVALID, f"{name} is set by Flowhook, not by a flow" if name == "specversion" else cause


def _instant(value: str) -> str:
    if not is_expression(value):
        try:
            zone = datetime.fromisoformat(value).tzinfo if RFC_3339.fullmatch(value) else None
        except ValueError:
            zone = None
        if zone is None:
            cause = "expected a time such as 2026-11-24T15:55:18Z, or an expression"
            raise validation_error(Code.VALUE_FORMAT, cause)
    return value


class EventProperties(Model):
    """Attributes and data of an event. Other keys are attributes too: CloudEvents calls them extensions."""

    model_config = ConfigDict(extra="allow")
    _names_are_sound = model_check(_bad_names)

    id: str | None = None
    source: str | None = None
    type: str | None = None
    time: str | None = None
    subject: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: Any = None


class AwaitedProperties(EventProperties):
    """The attributes that an event must have: at least one.

    A value is a literal or an expression over the attribute (over the data, for `data`), which must yield true or the
    attribute's value.
    """

    __pydantic_extra__: dict[str, str]

    _is_any = base.at_least_one(cause="expected at least one attribute, such as `type`", may_be_null=True)


_extension: Final = accept(
    lambda value: isinstance(value, bool | str) or (isinstance(value, int) and abs(value) < 1 << 31),
    Code.VALUE_TYPE,
    "expected a string, a boolean or a 32-bit integer",
)
_REFERENCE: Final = base.pattern_or_expression(r"\S+", "a URI without spaces")
_TYPE: Final = base.pattern_or_expression(rf"[\s\S]{{1,{MAX_TYPE_LENGTH}}}", f"1 to {MAX_TYPE_LENGTH} characters")
_ABSOLUTE_URI: Final = base.pattern_or_expression(r"[A-Za-z][A-Za-z0-9+.-]*:\S+", "an absolute URI")
_MEDIA_TYPE: Final = base.pattern_or_expression(r"[^\s/;]+/[^\s/;]+(\s*;.*)?", "a media type such as application/json")


class EmittedProperties(EventProperties):
    """The attributes and the data of an emitted event; values may be expressions in `${ }`, at any depth."""

    __pydantic_extra__: dict[str, Annotated[str | int | bool, PlainValidator(_extension), base.EXTENSION]]

    id: Annotated[str, Field(min_length=1)] | None = None
    """None: one that stays the same if the task is repeated after a crash."""
    source: Annotated[str, AfterValidator(_REFERENCE)] | None = None
    """A URI. None: `/flows/` and the flow's ID."""
    type: Annotated[str, AfterValidator(_TYPE)]
    time: Annotated[str, AfterValidator(_instant)] | None = None
    """RFC 3339. None: the time at which the task runs."""
    dataschema: Annotated[str, AfterValidator(_ABSOLUTE_URI)] | None = None
    datacontenttype: Annotated[str, AfterValidator(_MEDIA_TYPE)] | None = None


class EmittedEvent(Model):
    """The event to emit."""

    with_: EmittedProperties = Field(alias="with")


class EmitConfiguration(Model):
    """The event to emit."""

    event: EmittedEvent


_constant: Final = accept(
    lambda value: value is not None and not isinstance(value, dict | list),
    Code.VALUE_TYPE,
    "expected a string, a number, a boolean or an expression ${ … }",
)


class CorrelationDefinition(Model):
    """A value that an event must have, anywhere in it."""

    from_: str = Field(alias="from")
    """A path over the event, with or without `${ }`: `.data.body.order`."""
    expect: Annotated[str | int | float | bool | None, PlainValidator(_constant), base.CONSTANT] = None
    """The expected value: a constant, or an expression in `${ }`. None: the value of the first event."""


class EventFilterDefinition(Model):
    """A filter of events."""

    with_: AwaitedProperties = Field(alias="with")
    correlate: Annotated[dict[str, CorrelationDefinition], Field(max_length=MAX_CORRELATIONS)] = Field(
        default_factory=dict
    )


_Filters = Annotated[tuple[EventFilterDefinition, ...], Field(max_length=limits.MAX_EVENT_FILTERS)]


class EventStrategy(Model):
    """The awaited events: exactly one of these."""

    one: EventFilterDefinition | None = None
    """An event that passes this filter."""
    any: _Filters | None = None
    """An event that passes one of these filters; every event that is emitted, when there are none."""
    all: Annotated[_Filters, Field(min_length=1)] | None = None
    """An event for each of these filters."""

    _is_one = exactly_one("one", "any", "all", cause="expected exactly one of one, any and all", may_be_null=True)


class EventConsumptionStrategy(EventStrategy):
    """The awaited events and, with `any`, the end of waiting."""

    until: base.OrText[EventStrategy] | None = None
    """Allowed with `any`. The end of waiting: an expression, with or without `${ }`, over the array of consumed
    events; or events, which are not part of the output. None: the first event."""

    @field_validator("until")
    @classmethod
    def _goes_with_any(cls, value: object, info: ValidationInfo) -> object:
        if "any" in info.data and info.data["any"] is None:
            raise validation_error(Code.KEY_CONFLICT, "`until` is allowed with `any` only")
        return value


class ListenConfiguration(Model):
    """The awaited events, and the part of them that becomes the output."""

    to: EventConsumptionStrategy
    read: ReadAs = "data"
    """The part of an event that is read: its data, the whole event, or its data as text."""


MIN_SECONDS: Final = 1.0  # minimum interval between two executions that a timer starts
MAX_TIMEZONE_LENGTH: Final = 64  # the longest name has 32 characters


_interval: Final = accept(lambda seconds: seconds >= MIN_SECONDS, Code.VALUE_RANGE, "must be at least one second")
Interval = Annotated[Duration, AfterValidator(_interval)]
"""Seconds, at least `MIN_SECONDS`, written as a duration. Not an expression: nothing could evaluate it yet."""


class Schedule(base.OneKeyModel):
    """The trigger of a flow: exactly one of these; with `cron`, a `timezone`; with `on`, `read`."""

    _beside: ClassVar[Mapping[str, str]] = {"timezone": "cron", "read": "on"}

    cron: (
        Annotated[str, Field(max_length=MAX_LENGTH), AfterValidator(base.checked(check_cron, Code.CRON_INVALID))] | None
    ) = None
    """Times: minute, hour, day of the month, month, day of the week; with six fields, the second comes first."""
    timezone: Annotated[
        str, Field(max_length=MAX_TIMEZONE_LENGTH), AfterValidator(base.checked(check_timezone, Code.VALUE_FORMAT))
    ] = "UTC"
    """Time zone of `cron`, by its name in the IANA database. An addition to the DSL, whose times are in UTC."""
    every: Interval | None = None
    """Interval, at least a second; whether the last execution has ended does not matter."""
    after: Interval | None = None
    """Time after the end of the last execution, at least a second."""
    on: EventStrategy | None = None
    """Events, which are the input: an array. The router matches them, so attributes and expectations are constants."""
    read: ReadAs = "data"
    """The part of each event that is in the input: its data, the whole event, or its data as text."""
