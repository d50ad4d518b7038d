"""Requests that edges refused, as the log of rejections shows them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from flowhook.model.events import Headers
from flowhook.model.executions import Status
from flowhook.model.times import time_if_any, time_of


class Acceptability(StrEnum):
    """Whether a refused request can be accepted after its flow or a secret was corrected, or why it can't."""

    ACCEPTABLE = "acceptable"
    UNKNOWN = "unknown"
    NOT_AUTHENTICATION = "not_authentication"
    NOT_STORED = "not_stored"
    INCOMPLETE = "incomplete"
    ONE_TIME_URL = "one_time_url"
    NOT_REFUSED = "not_refused"


class RequestOutcome(StrEnum):
    """What became of a request."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    FILTERED = "filtered"
    DUPLICATE = "duplicate"
    HANDSHAKE = "handshake"
    TEST = "test"


TEST_TRACE: Final = "00-7e57f10e"
"""Beginning of the `traceparent` of test events that the console sends: by it an edge tells them from others."""


@dataclass(frozen=True, slots=True)
class RejectedRequest:
    """A request that an edge refused; see `flowhook.v1.Rejection`. `headers` and `body` are empty in lists."""

    id: str
    flow_id: str
    callback: str
    time_ms: int
    status: int
    reason: str
    detail: str
    address: str
    method: str
    path: str
    query: str
    headers: Headers
    body_size: int
    body: bytes
    suppressed: int
    acceptability: Acceptability = Acceptability.UNKNOWN
    accepted_event_id: str = ""  # of its later acceptance, as the time and the name of the token; empty and None: none
    accept_time_ms: int | None = None
    diagnosis: str = ""  # what would have made it pass; it is the end of `detail`, too
    accepted_by: str = ""
    outcome: RequestOutcome = RequestOutcome.REFUSED
    execution_id: str = ""  # that runs for it, or for the delivery that it repeats

    @property
    def accepted_execution_id(self) -> str:
        """ID of the execution that its event started; empty: it was not accepted, or was for a callback."""
        return "" if self.callback else self.accepted_event_id

    accepted_at = time_if_any("accept_time_ms")
    refused_at = time_of("time_ms")


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request that arrived.

    One that started an execution has no more than what that shows in a list.
    """

    outcome: RequestOutcome
    time_ms: int
    flow_id: str
    callback: str = ""
    execution_id: str = ""  # that runs for it, or for the delivery that it repeats
    execution_status: Status | None = None  # of one that runs for it
    rejection_id: str = ""  # ID in the log of rejections; empty if it started an execution
    status: int = 0
    reason: str = ""
    detail: str = ""
    address: str = ""
    method: str = ""
    path: str = ""
    suppressed: int = 0
    received_at = time_of("time_ms")


@dataclass(frozen=True, slots=True)
class RejectionCount:
    """How many refused requests of a flow are in the log for one reason, and the times of the first and the latest."""

    flow_id: str
    reason: str
    count: int
    first_time_ms: int
    last_time_ms: int
    first_at = time_of("first_time_ms")
    last_at = time_of("last_time_ms")


@dataclass(frozen=True, slots=True)
class AcceptedRejection:
    """The event that a refused request was accepted as."""

    event_id: str  # ID of the event; of an earlier one if the request is its duplicate
    execution_id: str  # ID of the execution that it starts; empty: the request was for a callback
    duplicate: bool  # whether the request was accepted before, or repeats a delivery that was
