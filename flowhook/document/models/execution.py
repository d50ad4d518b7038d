"""Models of the `execution` key: how a flow is run (docs/flow-file.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Discriminator, Field, StrictInt, Tag

from flowhook import limits
from flowhook.document.diagnostics.problems import Code, LocatedCause, validation_error
from flowhook.document.models import base
from flowhook.document.models.base import Either, Model, RetryOrName, at_least_one, checked, model_check
from flowhook.document.models.credentials import Duration
from flowhook.events.keys import ATTRIBUTE_NAME_PATTERN, MAX_NAME, MAX_PRIORITY
from flowhook.expressions.paths import compile_accessor
from flowhook.expressions.syntax import is_expression, strip_markers, syntax_hint
from flowhook.model.error_types import Spelling

MAX_RATE: Final = 1_000_000
MAX_RATE_SECONDS: Final = 31 * 24 * 3600.0
MAX_GROUP_SECONDS: Final = 7 * 24 * 3600.0
MAX_CONCURRENCY: Final = 100_000
MAX_PROBE_SECONDS: Final = 300.0


_attribute: Final = checked(lambda value: compile_accessor(strip_markers(value), variables=()), Code.EXPRESSION_INVALID)


def _path(value: str) -> Any:
    if not is_expression(value):
        raise validation_error(Code.EXPRESSION_REQUIRED, f"expected an expression ${{ … }}{syntax_hint(value)}")
    return _attribute(value)


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

    size: Annotated[StrictInt, Field(ge=1, le=limits.MAX_BATCH_SIZE)]
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

Priority = Either[Annotated[StrictInt, Field(ge=0, le=MAX_PRIORITY)], KeyPath]
"""In [0, 9]: of a flow, or, an expression, of each of its executions."""


class OutagePolicy(Model):
    """When executions park before they call a destination, because their calls to it fail."""

    failures: Annotated[StrictInt, Field(ge=1, le=1000)] = 5
    """Calls to one destination that fail in a row; any flow's own calls count for it alone."""
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Share of the last 100 calls to one destination that fail, even if some between them do not."""
    probe: Annotated[Duration, Field(ge=1, le=MAX_PROBE_SECONDS)] = 10.0
    """Seconds until one execution tries again; doubled whenever it fails, to at most a minute."""


Outage = Either[OutagePolicy, Literal["none"]]
"""When executions park before a destination that is down; `none`: never."""


class Order(Model):
    """The order of executions whose events have the same key."""

    key: KeyPath
    """Expression in `${ }`: events of one key run one after another. A path (see `expressions.paths`)."""
    on_fault: Literal["continue", "hold"] = "continue"
    """`hold`: an execution that faults keeps its turn until it is resolved, or a replay of it completes."""


class Retention(Model):
    """What is stored of a flow's executions that have ended; at least one of both."""

    age: Annotated[Duration, Field(ge=60)] | None = None
    """Seconds after its end for which an execution is stored, at least a minute; None: as the router is set."""
    size: Annotated[int, base.size(limits.MIB, math.inf, "expected at least 1MiB"), base.SIZE] | None = None
    """Bytes, at least 1 MiB; beyond them, the executions that were accepted first are removed. None: any."""

    _says_something = at_least_one("age", "size", cause="needs an `age`, a `size`, or both")


class ExecutionPolicy(Model):
    """Limits, order and retries of a flow's executions."""

    concurrency: Concurrency | None = None
    """Concurrent executions, of the flow or of one key; None: as many as runners can take."""
    rate: Rate | None = None
    """How often executions are given to runners; None: as often as there is room."""
    debounce: Debounce | None = None
    """Which events are run that follow each other closely; None: all."""
    batch: Batch | None = None
    """How many events one execution runs for; None: one."""
    priority: Priority = 0
    """Of its executions among each other, an expression in `${ }`; or of the flow among others, a number."""
    order_by: Either[Order, KeyPath] | None = None
    """The order; an expression is its `key`."""
    search: dict[
        Annotated[str, Field(max_length=MAX_NAME, pattern=ATTRIBUTE_NAME_PATTERN)],
        Annotated[str, AfterValidator(_attribute)],
    ] = Field(default_factory=dict, max_length=limits.MAX_SEARCH_ATTRIBUTES)
    """Search attributes by name: paths (see `expressions.paths`), with or without `${ }`."""
    error_types: Spelling = "open-workflow"
    """How types of the standard's errors are spelled for the flow and in its lifecycle events; all are understood."""
    retry: RetryOrName | None = None
    """The DSL's retry policy, for calls that fail transiently."""
    outage: Outage = OutagePolicy()
    """When executions park before a destination that is down; `none`: never."""
    max_backlog: Annotated[StrictInt, Field(ge=1, le=10_000_000)] = limits.DEFAULT_FLOW_BACKLOG
    """Unfinished executions; beyond it, senders get 429."""
    retention: Retention | None = None
    """What is stored of those that have ended; None: what the router is set to."""
