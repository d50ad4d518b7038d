"""The control channel between parent and child: a socket pair that carries one JSON object per line.

End of file tells either side that the other one is gone. The child's environment and command line hold no
configuration; settings and the token are sent over this channel.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

import attrs
import orjson

from flowhook import limits
from flowhook.model import Reply, WorkflowError
from flowhook.process.settings import RunnerSettings
from flowhook.wire import convert

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
class ProvidedEvent:
    """An event that a flow may listen for: a CloudEvent in JSON, from one of its callbacks or from another emitter."""

    payload: bytes
    callback: bool


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


@dataclass(frozen=True, slots=True)
class TaskTraced:
    """Child to parent: a task has ended; `entry` is the JSON that `worker.tracing.describe` returned."""

    entry: bytes


@dataclass(frozen=True, slots=True)
class ReplySent:
    """Child to parent: the flow answered its sender."""

    reply: Reply


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


Message = (
    Begin
    | Shutdown
    | RouterAttached
    | RouterDetached
    | Quarantined
    | RunDocument
    | TaskTraced
    | ReplySent
    | WaitStarted
    | RunEnded
)


# messages whose fields are all plain JSON values
_PLAIN: Final[Mapping[str, type[Message]]] = {
    kind.__name__: kind for kind in (RouterAttached, RouterDetached, Shutdown, Quarantined, WaitStarted)
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
            self._writer.write(_encode(message) + b"\n")

    async def receive(self) -> Message | None:
        """Return the next message; None: the peer closed its end or died."""
        try:
            line = await self._reader.readline()
        except (OSError, ValueError):
            return None
        return _decode(line) if line.endswith(b"\n") else None

    async def flush(self) -> None:
        """Wait until the kernel has all that was sent: call it before the process exits."""
        await self._writer.drain()

    def close(self) -> None:
        """Close this end."""
        self._writer.close()


def _encode(message: Message) -> bytes:
    body: dict[str, Any]
    match message:
        case Begin():
            body = {
                "settings": _settings(message.settings),
                "token": message.token,
                "runner_id": message.runner_id,
                "losses_explained": message.losses_explained,
                "kills": message.kills,
                "quarantined": message.quarantined,
            }
        case RunDocument():
            body = {
                "settings": _settings(message.settings),
                "definition": _text(message.definition),
                "event": _text(message.event),
                "secrets": {name: _text(value) for name, value in message.secrets.items()},
                "trace": message.trace,
                "until": message.until,
                "events": [[_text(event.payload), event.callback] for event in message.events],
                "skip_waits": message.skip_waits,
            }
        case TaskTraced(entry=entry):
            body = {"entry": _text(entry)}
        case ReplySent(reply=reply):
            body = {"reply": _text(convert.reply_to_bytes(reply))}
        case RunEnded():
            body = {
                "output": None if message.output is None else _text(message.output),
                "error": message.error and message.error.as_dict(),
                "reached": message.reached,
            }
        case _:
            body = asdict(message)
    return orjson.dumps({"kind": type(message).__name__, **body})


def _decode(line: bytes) -> Message:
    body: dict[str, Any] = orjson.loads(line)
    match body["kind"]:
        case "Begin":
            return Begin(
                settings=RunnerSettings(**body["settings"]),
                token=body["token"],
                runner_id=body["runner_id"],
                losses_explained=body["losses_explained"],
                kills=body["kills"],
                quarantined=body["quarantined"],
            )
        case "RunDocument":
            return RunDocument(
                settings=RunnerSettings(**body["settings"]),
                definition=base64.b64decode(body["definition"]),
                event=base64.b64decode(body["event"]),
                secrets={name: base64.b64decode(value) for name, value in body["secrets"].items()},
                trace=body["trace"],
                until=body["until"],
                events=[ProvidedEvent(base64.b64decode(payload), callback) for payload, callback in body["events"]],
                skip_waits=body["skip_waits"],
            )
        case "TaskTraced":
            return TaskTraced(base64.b64decode(body["entry"]))
        case "ReplySent":
            return ReplySent(convert.reply_from_bytes(base64.b64decode(body["reply"])))
        case "RunEnded":
            return RunEnded(
                output=None if body["output"] is None else base64.b64decode(body["output"]),
                error=WorkflowError.from_dict(body["error"]) if body["error"] else None,
                reached=body["reached"],
            )
        case kind if kind in _PLAIN:
            return _PLAIN[kind](**{name: value for name, value in body.items() if name != "kind"})
        case kind:
            raise ValueError(f"unknown message {kind}")


def _settings(settings: RunnerSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude={"token"})


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
