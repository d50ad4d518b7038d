"""The control channel between parent and child: a socket pair that carries one message a line, its name and its JSON.

End of file tells either side that the other one is gone. The child's environment and command line hold no
configuration; settings and the token are sent over this channel.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, get_args

import attrs
from pydantic import ConfigDict, TypeAdapter

from flowhook import limits
from flowhook.model import Reply, WorkflowError
from flowhook.process.settings import RunnerSettings
from flowhook.tracing.configuration import TracesConfiguration

MAX_LINE_BYTES: Final = 40 * limits.MIB  # the largest event in base64, with room to spare


@dataclass(frozen=True, slots=True)
class Begin:
    """Parent to child: attach to the router and execute flows."""

    settings: RunnerSettings  # of the runner, without its token
    token: str  # for the router
    runner_id: str  # the same for all children of one parent
    # whether no execution of earlier children caused their loss, or the cause is already reported
    losses_explained: bool
    kills: int  # number of children killed so far because of an evaluation; for the metrics
    quarantined: Mapping[str, float] = field(default_factory=dict)  # remaining seconds in quarantine by flow ID
    traces: TracesConfiguration | None = None  # None: spans are not exported


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Parent to child: finish the running executions within `seconds`, release the others, exit."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RouterAttached:
    """Child to parent: the router accepted the child; leases must be renewed every `renew_seconds`."""

    renew_seconds: float


@dataclass(frozen=True, slots=True)
class RouterDetached:
    """Child to parent: the connection to the router is lost; `detail` is for operators."""

    detail: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Child to parent: a flow is in quarantine for `seconds` from now, also for the next child."""

    flow_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Working:
    """Child to parent, which looks at the record seldom: there is an execution again."""


@dataclass(frozen=True, slots=True)
class ReadMetrics:
    """Parent to child: send your metrics."""


@dataclass(frozen=True, slots=True)
class MetricsRead:
    """Child to parent: the metrics of the child, in the text format of Prometheus."""

    text: bytes


@dataclass(frozen=True, slots=True)
class ProvidedEvent:
    """An event that a flow may listen for: a CloudEvent in JSON, from one of its callbacks or from another emitter."""

    payload: bytes
    callback: bool


@dataclass(frozen=True, slots=True)
class CallMock:
    """An answer for calls of a flow that fit `call` and `task`: `output` or `error`, else an HTTP response."""

    call: str = ""  # METHOD URL, or FUNCTION with or without an operation; `*` is any text. Empty: any
    task: str = ""  # name or JSON Pointer of the task; empty: any
    output: bytes | None = None  # JSON, in place of the whole call
    error: WorkflowError | None = None
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class RunDocument:
    """Parent to child, instead of `Begin`: run one document, without a router."""

    settings: RunnerSettings
    definition: bytes  # of the flow, canonical JSON
    event: bytes  # serialized; its ID is the execution's
    secrets: Mapping[str, bytes]  # all available secrets, by name
    trace: bool = False  # whether to send `TaskTraced` for each task
    until: str = ""  # name or JSON Pointer of a task to stop after; empty: none
    events: Sequence[ProvidedEvent] = ()  # available to the flow's `listen` tasks
    skip_waits: bool = False  # whether waits, delays and timeouts elapse at once while no call is in flight
    mocks: Sequence[CallMock] | None = None  # what answers calls; None: they are really made
    stops_waiting: bool = False  # whether the run ends when it listens for events and there are none


@dataclass(frozen=True, slots=True)
class TaskTraced:
    """Child to parent: a task has ended; `entry` is the JSON that `worker.standalone.describe` returned."""

    entry: bytes


@dataclass(frozen=True, slots=True)
class ReplySent:
    """Child to parent: the flow answered its sender."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class CallMocked:
    """Child to parent: a mock has answered a call."""

    mock: int  # index of the mock
    sent: bytes  # JSON, without the values of secrets: the body of the request, or the arguments of the call


@dataclass(frozen=True, slots=True)
class WaitStarted:
    """Child to parent: the execution is idle until a time has passed or an event arrives."""

    task: str  # JSON Pointer of the waiting task
    reason: str  # `wait`, `retry`, `timeout` or `listen`
    seconds: float  # after which the execution continues in any case
    types: Sequence[str] = ()  # of the events that it listens for; empty: any
    skipped: bool = False  # whether the time is skipped


@dataclass(frozen=True, slots=True)
class RunEnded:
    """Child to parent: the run requested by `RunDocument` has ended, with an output or an error."""

    output: bytes | None  # JSON, of the workflow or of the `until` task; None: see `error`
    error: WorkflowError | None
    reached: bool = False  # whether the run stopped after the `until` task
    waiting: str = ""  # JSON Pointer of the task that listens; set if the run stopped there
    unanswered: str = ""  # what to add to the mocks, if the run stopped because none of them answers a call
    unreceived: tuple[int, ...] = ()  # indexes of the events that no task received


Message = (
    Begin
    | Shutdown
    | RouterAttached
    | RouterDetached
    | Quarantined
    | Working
    | ReadMetrics
    | MetricsRead
    | RunDocument
    | TaskTraced
    | ReplySent
    | CallMocked
    | WaitStarted
    | RunEnded
)


# each reads and writes one message, in a tuple, because a dataclass itself takes no configuration from outside
_ADAPTERS: Final[Mapping[bytes, TypeAdapter[Any]]] = {
    kind.__name__.encode(): TypeAdapter(
        tuple[kind],  # type: ignore[valid-type]
        config=ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", defer_build=True),
    )
    for kind in get_args(Message)
}


@attrs.define(eq=False, repr=False)
class ControlChannel:
    """One end of the control channel. Sending never blocks; `receive` returns None when the other side is gone."""

    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, end: socket.socket) -> Self:
        """Take over one end of a socket pair."""
        reader, writer = await asyncio.open_connection(sock=end, limit=MAX_LINE_BYTES)
        writer.transport.set_write_buffer_limits(high=0)  # or `flush` would return before the last 64 KiB are written
        return cls(reader, writer)

    def send(self, message: Message) -> None:
        """Send a message without waiting; it is dropped when the peer is gone."""
        if not self._writer.is_closing():
            kind = type(message).__name__.encode()
            # the token goes beside the settings, where no repr shows it
            body = _ADAPTERS[kind].dump_json((message,), exclude={0: {"settings": {"token"}}})
            self._writer.write(kind + b" " + body + b"\n")

    async def receive(self) -> Message | None:
        """Return the next message; None: the peer closed its end or died."""
        try:
            line = await self._reader.readline()
        except (OSError, ValueError):
            return None
        if not line.endswith(b"\n"):
            return None
        kind, _, body = line.partition(b" ")
        message: Message = _ADAPTERS[kind].validate_json(body)[0]
        return message

    async def flush(self) -> None:
        """Wait until the kernel has all that was sent: call it before the process exits."""
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()
