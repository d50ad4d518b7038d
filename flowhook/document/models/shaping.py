"""Models of what shapes executions: `rate`, `concurrency`, `priority`, `debounce` and `batch` of `execution`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Discriminator, Field, StrictInt, Tag

from flowhook.document.diagnostics.problems import Code, LocatedCause, refused_as, validation_error
from flowhook.document.models.base import Model, model_check
from flowhook.document.models.credentials import Duration
from flowhook.events.shaping import MAX_PRIORITY
from flowhook.expressions.paths import compile_accessor
from flowhook.expressions.syntax import is_expression, strip_markers, syntax_hint
from flowhook.limits import MAX_BATCH_SIZE

MAX_RATE: Final = 1_000_000
MAX_RATE_SECONDS: Final = 31 * 24 * 3600.0
MAX_GROUP_SECONDS: Final = 7 * 24 * 3600.0
MAX_CONCURRENCY: Final = 100_000


def _path(value: str) -> str:
    if not is_expression(value):
        raise validation_error(Code.EXPRESSION_REQUIRED, f"expected an expression ${{ … }}{syntax_hint(value)}")
    with refused_as(Code.EXPRESSION_INVALID):
        compile_accessor(strip_markers(value), variables=())
    return value


KeyPath = Annotated[str, AfterValidator(_path)]
"""An expression in `${ }` that yields a key of an event: a path (see `expressions.paths`)."""


class Rate(Model):
    """How often executions begin, or go on after a wait; those that are too early wait for their turn."""

    limit: Annotated[StrictInt, Field(ge=1, le=MAX_RATE)]
    """Executions within `per`, evenly."""
    per: Annotated[Duration, Field(gt=0, le=MAX_RATE_SECONDS)]
    """Seconds; in (0, 31 days]."""
    burst: Annotated[StrictInt, Field(ge=1, le=MAX_RATE)] = 1
    """Executions that may begin at once after a pause; at most `limit`."""
    key: KeyPath | None = None
    """Each key has the rate for itself."""

    @model_check
    def _burst_is_within_the_limit(self) -> Iterator[LocatedCause]:
        if self.burst > self.limit:
            yield ("burst",), Code.VALUE_RANGE, f"expected at most the limit, {self.limit:,}"


class KeyedConcurrency(Model):
    """Concurrent executions of one key."""

    limit: Annotated[StrictInt, Field(ge=1, le=MAX_CONCURRENCY)]
    """Executions of one key that run at the same time."""
    key: KeyPath
    """Executions without a key are not limited."""


class Debounce(Model):
    """Of events that follow each other closely, only one is run."""

    key: KeyPath
    """Events of the same key belong together; those without one are run each."""
    period: Annotated[Duration, Field(gt=0, le=MAX_GROUP_SECONDS)]
    """Seconds without another event after which one is run; in (0, 7 days]."""
    take: Literal["latest", "first"] = "latest"
    """The event that is run."""


class Batch(Model):
    """One execution runs for several events; its input is the array of their inputs."""

    size: Annotated[StrictInt, Field(ge=1, le=MAX_BATCH_SIZE)]
    """Events with which a batch is full, and is run at once."""
    period: Annotated[Duration, Field(gt=0, le=MAX_GROUP_SECONDS)]
    """Seconds after its first event in which a batch is run, however many there are; in (0, 7 days]."""
    key: KeyPath | None = None
    """Events of the same key are batched, and those without one are run each; None: all events are."""


Concurrency = Annotated[
    Annotated[KeyedConcurrency, Tag("<keyed>")]
    | Annotated[StrictInt, Field(ge=1, le=MAX_CONCURRENCY), Tag("<number>")],
    Discriminator(lambda value: "<keyed>" if isinstance(value, dict | KeyedConcurrency) else "<number>"),
]
"""Executions of a flow, or of one key of it, that run at the same time."""

Priority = Annotated[
    Annotated[KeyPath, Tag("<path>")] | Annotated[StrictInt, Field(ge=0, le=MAX_PRIORITY), Tag("<number>")],
    Discriminator(lambda value: "<path>" if isinstance(value, str) else "<number>"),
]
"""In [0, 9]: of a flow, or, an expression, of each of its executions."""
