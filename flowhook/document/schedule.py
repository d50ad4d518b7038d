"""Model of `schedule`: the triggers of a flow besides requests.

Source: dsl-reference.md, "Schedule"; `flowhook.cron` for the fields of `cron`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, Field

from flowhook.cron import MAX_LENGTH, check_cron, check_timezone
from flowhook.document.auth import Duration
from flowhook.document.codes import Code
from flowhook.document.events import EventStrategy
from flowhook.document.model import OneKeyModel
from flowhook.document.validation import validation_error
from flowhook.errors import InvalidError

MIN_SECONDS: Final = 1.0
"""Minimum interval between two executions that a timer starts."""

MAX_TIMEZONE_LENGTH: Final = 64
"""Characters of the name of a time zone; the longest one has 32."""


def _interval(seconds: float) -> float:
    if seconds < MIN_SECONDS:
        raise validation_error(Code.VALUE_RANGE, "must be at least one second")
    return seconds


def _cron(value: str) -> str:
    try:
        check_cron(value)
    except InvalidError as error:
        raise validation_error(Code.CRON_INVALID, error.message) from None
    return value


def _timezone(value: str) -> str:
    try:
        check_timezone(value)
    except InvalidError as error:
        raise validation_error(Code.VALUE_FORMAT, error.message) from None
    return value


Interval = Annotated[Duration, AfterValidator(_interval)]
"""Seconds, at least `MIN_SECONDS`, written as a duration. Not an expression: nothing could evaluate it yet."""


class Schedule(OneKeyModel):
    """The trigger of a flow: exactly one of these; with `cron`, a `timezone`."""

    _beside: ClassVar[Mapping[str, str]] = {"timezone": "cron"}

    cron: Annotated[str, Field(max_length=MAX_LENGTH), AfterValidator(_cron)] | None = None
    """Times: minute, hour, day of the month, month, day of the week; with six fields, the second comes first."""
    timezone: Annotated[str, Field(max_length=MAX_TIMEZONE_LENGTH), AfterValidator(_timezone)] = "UTC"
    """Time zone of `cron`, by its name in the IANA database. An addition to the DSL, whose times are in UTC."""
    every: Interval | None = None
    """Interval, at least a second; whether the last execution has ended does not matter."""
    after: Interval | None = None
    """Time after the end of the last execution, at least a second."""
    on: EventStrategy | None = None
    """Events, which are the input: an array. The router matches them, so attributes and expectations are constants."""
