"""RunnerService: the router's end of the Attach streams of runners, and what else they call.

Reading and writing are two loops over one stream. Messages queued during a write are sent together, and reports read
while storage writes are stored in one batch, in order, so that both grow with the load and no report waits in the
stream behind another's write. Back-pressure: while a runner has sent more than could be stored, its stream is not read
further.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, Final

import attrs
import orjson
from typing_extensions import override

from flowhook import limits
from flowhook.asyncio_tasks import end_tasks, wait_at_most
from flowhook.attach import codec
from flowhook.attach.limits import protocol_violation
from flowhook.attach.messages import Assignment, DestinationUpdate, EventDelivery, Hello
from flowhook.attach.send_pacing import SendPacer
from flowhook.errors import ExhaustedError, FlowhookError, InvalidError, UnavailableError
from flowhook.model import Origin
from flowhook.process import logs
from flowhook.tracing.context import trace_id_of
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.v1 import runner_service_pb2_grpc
from router.bodies.body_streams import BodySender
from router.calls.error_mapping import Context, Write, request_stream_rpc, server_stream_rpc, unary_rpc
from router.dispatch.runners import RunnerPort
from router.dispatch.shard_runtime import ShardRuntime
from router.flows.admission import AdmissionControl
from router.session import (
    AddCredit,
    CountCalls,
    Effect,
    Register,
    RenewLeases,
    RunnerSession,
    StoreReports,
    Subscribe,
    check_runner_id,
    checked_outcome,
)
from router.triggers.event_publisher import EventPublisher
from router.triggers.execution_starter import EffectIds, ExecutionStart, ExecutionStarter, check_depth

MAX_RUNNERS: Final = 1000  # most runners attached at a time
HELLO_SECONDS: Final = 30.0  # timeout for a runner's hello, enough for a machine that gives it a tenth of a core
LAST_WORDS_SECONDS: Final = 1.0  # timeout for sending queued messages when a stream ends
# timeout for recording messages read from an ended stream; its executions are not assigned to others before
RECORD_SECONDS: Final = 5.0
LATEST: Final = frozenset({"", "latest"})  # versions that mean the latest revision, whatever its document's version
log = logs.get_logger(__name__)


@attrs.define(eq=False, repr=False)
class AttachWriter(RunnerPort):
    """One attached runner, as the shard runtime uses it: sends what its session has to send."""

    _session: RunnerSession  # state of the stream, after the runner's hello
    _on_room: Callable[[], None] = lambda: None  # called when the queue is no longer `full`
    # returns the number of executions the runner works on
    _under_way: Callable[[], int] = attrs.field(default=lambda: 0, kw_only=True)
    # Unix time in ms of the clock that ends waits; the runner tells the time by it
    _now_ms: Callable[[], int] = attrs.field(kw_only=True)
    _pace: SendPacer = attrs.field(init=False)
    _room: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _woken: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _ending: bool = attrs.field(init=False, default=False)
    error: FlowhookError | None = attrs.field(init=False, default=None)
    closed: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    # set when everything the runner sent is stored, and its stream has ended
    gone: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def __attrs_post_init__(self) -> None:
        self._pace = SendPacer(self._under_way)
        self._room.set()

    @property
    @override
    def runner_id(self) -> str:
        return self._session.runner_id

    @property
    @override
    def full(self) -> bool:
        return self._session.outgoing.full

    @override
    async def room(self) -> None:
        await self._room.wait()

    @override
    def assign(self, deliveries: Sequence[Assignment], *, urgent: bool = False) -> None:
        self._session.outgoing.assign(deliveries)
        self._wake(urgent=urgent)

    @override
    def hand_over(self, delivery: EventDelivery, *, urgent: bool = False) -> None:
        self._session.outgoing.deliver(delivery)
        self._wake(urgent=urgent)

    @override
    def acknowledge(self, token: bytes, position: int, number: int = 0, *, urgent: bool = False) -> None:
        self._session.outgoing.acknowledge(token, position, number)
        self._wake(urgent=urgent)

    @override
    def want(self, types: Collection[str]) -> None:
        self._session.outgoing.want(types)
        self._wake(urgent=False)

    @override
    def update_destinations(self, updates: Iterable[DestinationUpdate]) -> None:
        self._session.outgoing.update_destinations(updates)
        self._wake(urgent=True)

    @override
    def settle(self, tokens: Sequence[bytes]) -> None:
        self._session.outgoing.settle(tokens)
        self._wake(urgent=False)

    @override
    def revoke(self, tokens: Sequence[bytes], reason: str) -> None:
        if not self._session.outgoing.revoke(tokens, reason):
            self.close(ExhaustedError("the runner does not read its messages", reason="RUNNER_DEAF"))
        self._wake(urgent=False)

    def renewed(self, stamp: int) -> None:
        """Report that leases are renewed as of `stamp`, a time of the runner's own clock."""
        self._session.outgoing.renewed(stamp)
        self._wake(urgent=True)

    def drain(self, grace: float) -> None:
        """Announce that this router stops in `grace` seconds."""
        self._session.outgoing.drain(grace)
        self._wake(urgent=True)

    @override
    def close(self, error: FlowhookError) -> None:
        self.error = self.error or error
        self.closed.set()
        self.end()

    def end(self) -> None:
        """End the stream once queued messages are sent."""
        self._ending = True
        self._room.set()
        self._wake(urgent=True)

    async def send(self, write: Callable[[codec.Response], Awaitable[None]]) -> None:
        """Send queued messages, until the end."""
        while True:
            await self._woken.wait()
            await self._pace.turn()
            self._woken.clear()
            await self.send_now(write)
            if self._ending and not self._woken.is_set():
                return

    async def send_now(self, write: Callable[[codec.Response], Awaitable[None]]) -> None:
        """Send what is queued now, without waiting for a turn."""
        for response in codec.encode_responses(self._session.take(), sent_ms=self._now_ms()):
            await write(response)
        was_full = self.full
        self._session.outgoing.sent()
        if was_full and not self.full:
            self._room.set()
            self._on_room()

    def _wake(self, *, urgent: bool) -> None:
        if self.full and not self._ending:  # while ending, there will be no more room
            self._room.clear()
        if urgent:
            self._pace.expedite()
        self._woken.set()


@attrs.define(eq=False, repr=False)
class AttachReader:
    """Processes the messages of one attached runner: stores what it reports, through the shard runtime."""

    _runtime: ShardRuntime
    _writer: AttachWriter
    _session: RunnerSession
    _woken: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _room: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _ending: bool = attrs.field(init=False, default=False)

    async def read(self, requests: AsyncIterator[codec.Request]) -> None:
        """Process the messages of the stream; InvalidError: the runner violates the protocol."""
        async for request in requests:
            await self.put(request)

    async def put(self, request: codec.Request) -> None:
        """Process a message from the stream; wait while too much is not stored yet."""
        for message, size in codec.decode_request(request):
            for effect in self._session.receive(message, size):
                self._apply(effect)
        if self._session.reports:
            self._woken.set()
        while self._session.reports.full:
            self._room.clear()
            await self._room.wait()

    def _apply(self, effect: Effect) -> None:
        match effect:
            case AddCredit(assignments=assignments):
                if not self._runtime.add_credit(self._writer, assignments):
                    raise protocol_violation("at most 4096 assignments of credit may be outstanding")
            case RenewLeases(stamp=stamp):
                # else its leases are lost, and the stream is about to end
                if self._runtime.runners.renew(self._writer):
                    self._writer.renewed(stamp)
            case CountCalls(reports=reports):
                self._runtime.outages.report(reports)

    def end(self) -> None:
        """Let `record` return once all reports are stored."""
        self._ending = True
        self._woken.set()

    async def record(self) -> None:
        """Store reports until `end` is called and there are none left."""
        reports = self._session.reports
        while reports or not self._ending:
            await self._woken.wait()
            self._woken.clear()
            while reports:
                for effect in reports.take():
                    if self._runtime.runners.is_superseded(self._writer):
                        continue  # the runner sends all of it again on its new stream
                    match effect:
                        case StoreReports():
                            await self._store(effect)
                        case Subscribe(update=update):
                            self._runtime.listen(self._writer, update)
                reports.stored()
                self._room.set()

    async def _store(self, reports: StoreReports) -> None:
        recorder = self._runtime.recorder
        stores = [recorder.checkpoint(self._writer, reports.checkpoints)] if reports.checkpoints else []
        stores += [recorder.settle(self._writer, reports.outcomes)] if reports.outcomes else []
        # mostly there is one, which needs no task of its own
        await (stores[0] if len(stores) == 1 else asyncio.gather(*stores))
        # the stream may have been superseded meanwhile: then the checkpoints that these follow are not stored
        if reports.later_outcomes and not self._runtime.runners.is_superseded(self._writer):
            await recorder.settle(self._writer, reports.later_outcomes)


@attrs.define(eq=False, repr=False, kw_only=True)
class RunnerService(runner_service_pb2_grpc.RunnerServiceServicer):
    """See protos/flowhook/v1/runner_service.proto."""

    _runtime: ShardRuntime
    _lease_seconds: float
    _admission: AdmissionControl
    _publisher: EventPublisher
    _starter: ExecutionStarter
    _body_sender: BodySender
    # the attached runners, each with the functions that it can call
    _links: dict[AttachWriter, frozenset[str]] = attrs.field(init=False, factory=dict)
    _closing: bool = attrs.field(init=False, default=False)
    _idle: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def __attrs_post_init__(self) -> None:
        self._idle.set()

    def components(self) -> frozenset[str] | None:
        """Return the functions that attached runners can call, None when no runner is attached."""
        return frozenset().union(*self._links.values()) if self._links else None

    async def drain(self, grace: float) -> None:
        """Ask all runners to attach elsewhere, and give them up to `grace` seconds to report their executions."""
        self._closing = True
        for link in self._links:
            link.drain(grace)
        await self._runtime.drain(grace)
        for link in self._links:
            link.close(UnavailableError("the router stops", reason="ROUTER_STOPPED"))
        await wait_at_most(LAST_WORDS_SECONDS, self._idle.wait())

    @request_stream_rpc
    async def Attach(self, request_iterator: AsyncIterator[codec.Request], context: Context) -> None:
        """Serve the stream of one runner from its first message until either side ends it."""
        session = RunnerSession()
        link = self._register(session, await _hello(session, request_iterator))
        log.info("runner attached", runner=link.runner_id)
        try:
            await link.send_now(context.write)
            await self._serve_stream(session, link, request_iterator, context)
        finally:
            link.end()  # wakes callers that wait for room in the queue, whatever ended the call
            self._links.pop(link, None)
            self._runtime.detach(link)
            link.gone.set()
            if not self._links:
                self._idle.set()
            log.info("runner detached", runner=link.runner_id)

    @unary_rpc
    async def ReportExit(self, request: pb.ReportExitRequest) -> pb.ReportExitResponse:
        check_runner_id(request.runner_id)
        evaluated = None
        if request.HasField("evaluated"):
            evaluated = checked_outcome(codec.exit_outcome_from_proto(request.evaluated))
        earlier = [link for link in self._links if link.runner_id == request.runner_id]
        # messages it sent before count, and are still being recorded
        recorded = asyncio.gather(*(link.gone.wait() for link in earlier))
        await wait_at_most(RECORD_SECONDS + LAST_WORDS_SECONDS, recorded)
        # else the next process has taken over
        if not earlier or not all(map(self._runtime.runners.is_superseded, earlier)):
            await self._runtime.exited(request.runner_id, evaluated, explained=request.losses_explained)
        return pb.ReportExitResponse()

    @unary_rpc
    async def RenewLeases(self, request: pb.RenewLeasesRequest) -> pb.RenewLeasesResponse:
        check_runner_id(request.runner_id)
        # on behalf of a process that is alive but too busy to renew its leases
        self._runtime.shard.runners.renew(request.runner_id, self._runtime.parts.clock())
        return pb.RenewLeasesResponse()

    @unary_rpc
    async def EmitEvent(self, request: pb.EmitEventRequest) -> pb.EmitEventResponse:
        effect = EffectIds(request.idempotency_key, request.execution_id)
        receivers = await self._publisher.publish(
            request.event, effect, depth=request.depth, emitter=request.execution_id
        )
        return pb.EmitEventResponse(receivers=receivers)

    @unary_rpc
    async def StartExecution(self, request: pb.StartExecutionRequest) -> pb.StartExecutionResponse:
        """Start an execution of another flow for the task `run: workflow`; the idempotency key makes it exactly one."""
        if len(request.input) > limits.MAX_RESULT_BYTES:
            raise InvalidError(f"`input` must have at most {limits.MAX_RESULT_BYTES} bytes", reason="INPUT_TOO_LARGE")
        try:
            orjson.loads(request.input or b"{}")
        except orjson.JSONDecodeError:
            raise InvalidError("`input` must be JSON", reason="INPUT_INVALID") from None
        check_depth(request.parent_depth)
        flow_id, version = request.flow_id, request.version
        entry = self._admission.known(flow_id) or await self._admission.flow(flow_id)
        revision = 0 if version in LATEST else await self._admission.revision(entry, version)
        quiet = await self._starter.is_quiet(request.parent_execution_id)
        event_id = EffectIds(request.idempotency_key, request.parent_execution_id).derive("run", flow_id)
        start = ExecutionStart(
            event_id,
            flow_id,
            Origin.WORKFLOW,
            request.input or b"{}",
            request.parent_depth + 1,
            quiet,
            revision,
            request.parent_execution_id,
            traceparent=request.traceparent if trace_id_of(request.traceparent) else "",
        )
        (appended,) = await self._starter.start([start])
        if isinstance(appended, FlowhookError):
            raise appended
        return pb.StartExecutionResponse(execution_id=event_id)

    @server_stream_rpc
    async def ReadAttachment(self, request: pb.ReadAttachmentRequest, write: Write) -> None:
        async def send(chunk: bytes) -> None:
            await write(pb.ReadAttachmentResponse(chunk=chunk))

        await self._body_sender.slice(request.execution_id, request.offset, request.size, send)

    async def _serve_stream(
        self, session: RunnerSession, writer: AttachWriter, requests: AsyncIterator[codec.Request], context: Context
    ) -> None:
        """Read and write until either ends, or the link is closed."""
        reader = AttachReader(self._runtime, writer, session)
        reading = asyncio.create_task(reader.read(requests), name="read from runner")
        recording = asyncio.create_task(reader.record(), name="store the reports of a runner")
        writing = asyncio.create_task(writer.send(context.write), name="write to runner")
        closing = asyncio.create_task(writer.closed.wait(), name="wait for the end")
        tasks: tuple[asyncio.Task[Any], ...] = (reading, recording, writing, closing)
        try:
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                # messages already read count, even from a disconnected runner, whose call gRPC cancels
                reader.end()
                await asyncio.wait({recording}, timeout=RECORD_SECONDS)
            # and they are acknowledged, unless the runner does not read
            writer.end()
            await asyncio.wait({writing}, timeout=LAST_WORDS_SECONDS)
            if writer.error is not None:
                raise writer.error
            for task in (reading, recording, writing):
                if task.done():
                    await task
        finally:
            await end_tasks(tasks)

    def _register(self, session: RunnerSession, hello: Hello) -> AttachWriter:
        if self._closing:
            raise UnavailableError("the router stops", reason="ROUTER_STOPPED")
        runner_id = hello.runner_id
        if len(self._links) >= MAX_RUNNERS and not any(link.runner_id == runner_id for link in self._links):
            raise ExhaustedError("too many runners are attached", reason="TOO_MANY_RUNNERS", retry_after=5)
        link = AttachWriter(
            session,
            self._runtime.wake,
            under_way=lambda: self._runtime.shard.runners.lease_count(runner_id),
            now_ms=self._runtime.parts.now_ms,
        )
        retained = self._runtime.attach(link, hello.held_leases, explained=hello.losses_explained)
        session.welcome(self._lease_seconds, retained)
        self._links[link] = frozenset(hello.components)
        self._idle.clear()
        return link


async def _hello(session: RunnerSession, requests: AsyncIterator[codec.Request]) -> Hello:
    try:
        async with asyncio.timeout(HELLO_SECONDS):
            request = await anext(requests)
    except StopAsyncIteration:
        raise protocol_violation("the stream ended before its hello") from None
    except TimeoutError:
        raise protocol_violation(f"no hello within {HELLO_SECONDS:.0f} s") from None
    for message, size in codec.decode_request(request):
        for effect in session.receive(message, size):
            if isinstance(effect, Register):
                return effect.hello
    raise protocol_violation("the first message of a stream is a hello")
