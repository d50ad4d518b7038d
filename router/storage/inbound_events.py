"""Values for arrivals: inbound events for executions that are already running and listen for them."""

from __future__ import annotations

from typing import NamedTuple


class NewInboundEvent(NamedTuple):
    """An event to append, for executions of a flow that listen for it.

    Attributes:
        callback: whether it was sent to one of the flow's callbacks, which `type` then names.
        receive_time_ms: Unix time.
        payload: the event as JSON of CloudEvents 1.0; at most `limits.MAX_RESULT_BYTES`.
        expire_at_ms: Unix time until which it is retained. Its ID is retained as long, and for at least a day.
        dedupe_key: scoped to the flow, and within it to the callback; empty: the arrival is never deduplicated.
        dedupe_until_ms: Unix time until which another arrival with this key is a duplicate of this one.
        execution_id: the one execution it is addressed to; empty: any that listens for it.
        token: a single-use token, scoped to the flow: one arrival is stored for it; or empty.
        token_until_ms: Unix time until which a used token is retained.
        to_all: whether a callback's event goes to all executions that wait for it, not to one. An emitted event always
            goes to all.
        check_only: store nothing, only check whether it was stored before.
        emitter: ID of the execution whose event it is; empty: of none.
    """

    event_id: str
    flow_id: str
    callback: bool
    type: str
    receive_time_ms: int
    payload: bytes
    expire_at_ms: int = 0
    dedupe_key: str = ""
    dedupe_until_ms: int = 0
    execution_id: str = ""
    token: str = ""
    token_until_ms: int = 0
    to_all: bool = False
    check_only: bool = False
    emitter: str = ""


class InboundEventAppended(NamedTuple):
    """Result of appending one arrival.

    Attributes:
        number: its number among all arrivals, from 1, ascending; 0 when it is `gone`, or is new and `check_only`.
        duplicate_of: ID of the event stored earlier under the same event ID or dedupe key, in which case `number` is
            the earlier arrival's; empty when this one is new.
        gone: nothing was stored, because its token was used before, or because the execution it is addressed to has
            ended or is unknown.
    """

    number: int
    duplicate_of: str = ""
    gone: bool = False


class LoggedInboundEvent(NamedTuple):
    """A durable arrival, as reported to the shard's owner.

    `seq` is the execution it is addressed to; 0: any that listens for it.
    """

    number: int
    arrival: NewInboundEvent
    seq: int = 0


class UnconsumedEvent(NamedTuple):
    """An unconsumed event at start-up; `seq` as in `LoggedInboundEvent`, `to_all` as in `NewInboundEvent`."""

    number: int
    flow_id: str
    callback: bool
    type: str
    expire_at_ms: int
    seq: int = 0
    to_all: bool = False
