"""Model of `schedule`: the triggers of a flow besides requests.

Source: dsl-reference.md, "Schedule"; `flowhook.cron` for the fields of `cron`.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from flowhook.cron import MAX_LENGTH, check_cron
from flowhook.document.auth import Duration
from flowhook.document.codes import Code
from flowhook.document.events import EventStrategy
from flowhook.document.model import OneKeyModel
from flowhook.document.validation import validation_error
from flowhook.errors import InvalidError

MIN_SECONDS: Final = 1.0
"""Minimum interval between two executions that a timer starts."""


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


Interval = Annotated[Duration, AfterValidator(_interval)]
"""Seconds, at least `MIN_SECONDS`, written as a duration. Not an expression: nothing could evaluate it yet."""


class Schedule(OneKeyModel):
    """The trigger of a flow: exactly one of these."""

    cron: Annotated[str, Field(max_length=MAX_LENGTH), AfterValidator(_cron)] | None = None
    """Times in UTC: minute, hour, day of the month, month, day of the week; with six fields, the second comes first."""
    every: Interval | None = None
    """Interval, at least a second; whether the last execution has ended does not matter."""
    after: Interval | None = None
    """Time after the end of the last execution, at least a second."""
    on: EventStrategy | None = None
    """Events, which are the input: an array. The router matches them, so attributes and expectations are constants."""
