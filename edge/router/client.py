"""The edge's interface to the router, and its gRPC client. Failures are raised as `flowhook.errors`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

import attrs
import grpc
import grpc.aio

from flowhook.client.router_errors import TAKEOVER
from flowhook.errors import FlowhookError, UnavailableError
from flowhook.model import Blob
from flowhook.process import logs
from flowhook.v1 import ingest_service_pb2 as ingest_pb
from flowhook.v1 import rejection_service_pb2 as rejection_pb
from flowhook.v1.envelope_pb2 import Event
from flowhook.v1.flow_service_pb2 import (
    FindFlowsRequest,
    GetFlowRequest,
    GetFlowResponse,
    RequestUrl,
    WatchFlowsRequest,
    WatchFlowsResponse,
)
from flowhook.v1.flow_service_pb2_grpc import FlowServiceStub
from flowhook.v1.ingest_service_pb2_grpc import IngestServiceStub
from flowhook.v1.rejection_service_pb2_grpc import RejectionServiceStub
from flowhook.v1.secret_service_pb2 import ResolveSecretsRequest, ResolveSecretsResponse
from flowhook.v1.secret_service_pb2_grpc import SecretServiceStub
from flowhook.wire import status
from flowhook.wire.convert import duration
from flowhook.wire.mapping import from_proto

T = TypeVar("T")

UploadCall = grpc.aio.StreamUnaryCall[ingest_pb.UploadBodyRequest, ingest_pb.UploadBodyResponse]
_Request = ingest_pb.StreamEventsRequest
_Answer = asyncio.Future[ingest_pb.StreamEventsResponse]
EventCall = grpc.aio.StreamStreamCall[_Request, ingest_pb.StreamEventsResponse]

Verify = Callable[[rejection_pb.AttachVerifierResponse], Awaitable[rejection_pb.AttachVerifierRequest]]
"""Verifies a request and returns the answer, whose `verification_id` it may leave empty. Never raises."""

RECONNECT_SECONDS: Final = 0.5
REFUSED_SECONDS: Final = 15.0  # pause after a router refused the stream of verifications, as one of an earlier version
INVOKE_GRACE_SECONDS: Final = 5.0  # added to the deadline of InvokeFlow, for storing the event and for the round trip
REPORT_SECONDS: Final = 5.0  # deadline of a report of refused requests
TAKEOVER_PAUSE: Final = 0.1  # seconds between two attempts of a call while another router takes over
_EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined] # the stubs of gRPC lack it
_ADMITTED: Final = "admitted"
_END: Final = ingest_pb.UploadBodyRequest(end=ingest_pb.UploadEnd())

log = logs.get_logger(__name__)


FlowName = str | tuple[str, str]
"""What a flow is found by: its ID, or host and path of a request."""


class FoundFlows(NamedTuple):
    """Flows that were found."""

    flow_ids: Mapping[FlowName, str]  # ID of each flow that exists
    has_urls: bool  # whether any flow has a URL of its own, as far as that was asked


@attrs.define(eq=False, repr=False)
class Upload:
    """An upload of a body to the router. Methods may raise any FlowhookError, which ends the upload like `cancel`."""

    _call: UploadCall
    _seconds: float
    _given_up: bool = attrs.field(init=False, default=False)

    async def begin(self, start: ingest_pb.UploadStart) -> None:
        await self._send(ingest_pb.UploadBodyRequest(start=start))
        if _ADMITTED not in dict(await self._step(self._call.initial_metadata())):  # the call ends with a refusal
            await self._step(self._call)

    async def write(self, data: bytes) -> None:
        """Send the next bytes, no faster than the router accepts them (back-pressure)."""
        await self._send(ingest_pb.UploadBodyRequest(chunk=data))

    async def finish(self) -> Blob:
        """Complete the upload, and return the reference to the body for events; the body is durable."""
        await self._send(_END)
        await self._step(self._call.done_writing())
        response: ingest_pb.UploadBodyResponse = await self._step(self._call)
        return from_proto(response.blob, Blob)

    def cancel(self) -> None:
        """Abort the upload; without effect once it is finished."""
        self._given_up = True
        self._call.cancel()

    def on_end(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the router ends the upload, finished or not, but not after `cancel`."""

        def ended(_call: object) -> None:
            if not self._given_up:
                callback()

        self._call.add_done_callback(ended)

    async def outcome(self) -> None:
        await self._step(self._call)

    async def _send(self, message: ingest_pb.UploadBodyRequest) -> None:
        if self._call.done():
            await self._step(self._call)
        try:
            await self._step(self._call.write(message))
        except asyncio.InvalidStateError:  # the call has just ended
            await self._step(self._call)

    async def _step(self, step: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._seconds):
                return await step
        except TimeoutError:
            self._call.cancel()
            raise UnavailableError("the router does not take the body") from None
        except grpc.aio.AioRpcError as error:
            # if a write overlaps the end of the call, gRPC replaces the router's error with one of its own
            if error.code() is grpc.StatusCode.INTERNAL:
                raise UnavailableError("the router ended the upload") from None
            raise status.from_rpc_error(error) from None


@attrs.define(eq=False, repr=False)
class _OpenCall:
    """A call that stores batches of events."""

    call: EventCall
    # of the requests that were sent, in their order
    unanswered: deque[_Answer] = attrs.field(init=False, factory=deque)


class EventStream:
    """Stores batches of events over one call, which is made anew when it has ended."""

    def __init__(self, begin: Callable[[], EventCall]) -> None:
        self._begin = begin
        self._present: _OpenCall | None = None
        self._reading: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()  # gRPC takes one message of a call at a time

    async def send(self, request: _Request, seconds: float) -> ingest_pb.StreamEventsResponse:
        """Send a request, and return its response; may raise any FlowhookError.

        If it takes longer than `seconds`, the call is ended, so that none waits for a router that is stuck.
        """
        answer: _Answer = asyncio.get_running_loop().create_future()
        opened = None
        try:
            async with asyncio.timeout(seconds):
                async with self._writing:
                    opened = self._present or self._open()
                    opened.unanswered.append(answer)
                    await self._write(opened, request, answer)
                return await answer
        except TimeoutError:
            error = UnavailableError("the router does not answer")
            if opened is not None:
                self._end(opened, error)
            raise error from None

    async def _write(self, opened: _OpenCall, request: _Request, answer: _Answer) -> None:
        try:
            await opened.call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the call has ended, and `_read` says why
        except asyncio.CancelledError:
            # gRPC also raises it if the call was ended here, for another request: then this task goes on
            task = asyncio.current_task()
            is_cancelled = task is not None and task.cancelling() > 0
            if is_cancelled:
                answer.cancel()
            # whether the request was sent is unknown, and so is which request the next response is for
            self._end(opened, UnavailableError("the stream of events was ended"))
            if is_cancelled:
                raise

    def _open(self) -> _OpenCall:
        self._present = opened = _OpenCall(self._begin())
        reading = asyncio.create_task(self._read(opened), name="read results of events")
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)
        return opened

    async def _read(self, opened: _OpenCall) -> None:
        response: Any  # the stubs of gRPC say `object`
        error: FlowhookError = UnavailableError("the router ended the stream of events")
        try:
            while (response := await opened.call.read()) is not _EOF and opened.unanswered:
                answer = opened.unanswered.popleft()
                if not answer.done():
                    answer.set_result(response)
        except grpc.aio.AioRpcError as failure:
            error = status.from_rpc_error(failure)
        finally:
            self._end(opened, error)

    def _end(self, opened: _OpenCall, error: FlowhookError) -> None:
        """End a call; its requests fail, and the next one makes another call."""
        if self._present is opened:
            self._present = None
        opened.call.cancel()
        while opened.unanswered:
            answer = opened.unanswered.popleft()
            if not answer.done():
                answer.set_exception(error)


async def _response(call: Awaitable[T]) -> T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise status.from_rpc_error(error) from None


class RouterClient:
    """The router, as the edge sees it. Every method may raise any FlowhookError; those listed have a specific meaning.

    `seconds` is the timeout of a call, unless a method says otherwise. The caller owns the channel.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._ingest = IngestServiceStub(channel)
        self._events, self._callbacks = (
            EventStream(lambda: self._ingest.StreamEvents(None, wait_for_ready=True)) for _ in range(2)
        )
        self._flows = FlowServiceStub(channel)
        self._rejections = RejectionServiceStub(channel)
        self._secrets = SecretServiceStub(channel)

    async def ingest(self, events: Sequence[Event], seconds: float) -> Sequence[ingest_pb.IngestResult]:
        """Store events; return one result per event, in order."""
        # callbacks may take the router long, and must keep no other event waiting
        stream = self._callbacks if events[0].callback else self._events
        request = _Request()
        request.events.extend(events)  # half the time of an argument of the constructor
        return (await stream.send(request, seconds)).results

    async def invoke(self, event: Event, seconds: float) -> ingest_pb.InvokeFlowResponse:
        """Store an event and wait up to `seconds` for its flow's response.

        Raises:
            UnavailableError: among other causes, the router is unreachable; this is raised without waiting.
        """
        request = ingest_pb.InvokeFlowRequest(event=event, max_wait=duration(seconds))
        return await _response(self._ingest.InvokeFlow(request, timeout=seconds + INVOKE_GRACE_SECONDS))

    async def upload(self, start: ingest_pb.UploadStart, seconds: float) -> Upload:
        """Start an upload, once the router admits it. Each step of it, the start included, may take `seconds`.

        Raises:
            NotFoundError: there is no such flow.
            ExhaustedError: the flow accepts no more uploads, or no more of this sender.
            UnavailableError: the router accepts no more uploads, or is unreachable.
        """

        async def attempt(_left: float) -> Upload:  # each step of an upload may take all of them
            upload = Upload(self._ingest.UploadBody(None, wait_for_ready=True), seconds)
            try:
                await upload.begin(start)
            except BaseException:
                upload.cancel()
                raise
            return upload

        return await _until_owned(attempt, seconds)

    async def get_reply(self, token: str, seconds: float) -> ingest_pb.GetReplyResponse:
        """Return an execution's response so far; NotFoundError: token never issued, or past retention."""
        request = ingest_pb.GetReplyRequest(reply_token=token)

        def attempt(left: float) -> Awaitable[ingest_pb.GetReplyResponse]:
            return _response(self._ingest.GetReply(request, timeout=left, wait_for_ready=True))

        return await _until_owned(attempt, seconds)

    async def get_flow(self, flow_id: str, seconds: float) -> GetFlowResponse:
        """Return a flow; NotFoundError: it does not exist."""
        request = GetFlowRequest(flow_id=flow_id)
        return await _response(self._flows.GetFlow(request, timeout=seconds, wait_for_ready=True))

    async def find_flows(self, names: Sequence[FlowName], seconds: float) -> FoundFlows:
        """Return the flows of 1 to `limits.MAX_FOUND_FLOWS` IDs and URLs."""
        urls = [each for each in names if isinstance(each, tuple)]
        request = FindFlowsRequest(
            flow_ids=[each for each in names if isinstance(each, str)],
            urls=[RequestUrl(host=host, path=path) for host, path in urls],
        )
        response = await _response(self._flows.FindFlows(request, timeout=seconds, wait_for_ready=True))
        flows: dict[FlowName, str] = {flow_id: flow_id for flow_id in response.flow_ids}
        flows |= {url: flow_id for url, flow_id in zip(urls, response.flow_ids_of_urls, strict=True) if flow_id}
        return FoundFlows(flows, not urls or response.has_urls)

    async def resolve_secrets(self, flow_id: str, names: Collection[str], seconds: float) -> ResolveSecretsResponse:
        """Return verification secrets of a flow; NotFoundError: it does not exist."""
        request = ResolveSecretsRequest(flow_id=flow_id, names=sorted(names))
        return await _response(self._secrets.ResolveSecrets(request, timeout=seconds, wait_for_ready=True))

    async def report(self, rejections: Sequence[rejection_pb.Rejection]) -> None:
        """Report refused requests; the caller may ignore that the router does not accept them."""
        request = rejection_pb.ReportRejectionsRequest(rejections=rejections)
        await _until_owned(
            lambda left: _response(self._rejections.ReportRejections(request, timeout=left)), REPORT_SECONDS
        )

    async def verify_rejections(self, verify: Verify) -> None:
        """Answer with `verify` what the router wants verified again, until it ends the stream."""
        call = self._rejections.AttachVerifier(None)
        writing = asyncio.Lock()

        async def answer(request: rejection_pb.AttachVerifierResponse) -> None:
            reply = await verify(request)
            reply.verification_id = request.verification_id
            async with writing:
                with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the stream has ended
                    await call.write(reply)

        answering: set[asyncio.Task[None]] = set()
        try:
            async for request in call:
                task = asyncio.create_task(answer(request))
                answering.add(task)
                task.add_done_callback(answering.discard)
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from None
        finally:
            call.cancel()
            for task in answering:
                task.cancel()

    async def watch(self, start_revision: int) -> AsyncGenerator[WatchFlowsResponse, None]:
        """Yield changes after a revision (0: now) until the stream ends; OutOfRangeError: not retained any more."""
        call = self._flows.WatchFlows(WatchFlowsRequest(start_revision=start_revision))
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from None
        finally:
            call.cancel()


async def _until_owned(attempt: Callable[[float], Awaitable[T]], seconds: float) -> T:
    """Repeat an idempotent call that failed because another router takes over, until `seconds` are over.

    `attempt` is given the seconds that are left. Other calls are repeated by those who make them, together with further
    failures.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        try:
            return await attempt(max(0.001, deadline - loop.time()))
        except UnavailableError as error:
            if error.reason not in TAKEOVER or loop.time() + TAKEOVER_PAUSE >= deadline:
                raise
        await asyncio.sleep(TAKEOVER_PAUSE)


async def attach_verifier_forever(router: RouterClient, verify: Verify) -> None:
    """Attach to the router as a verifier whenever it is there, until cancelled."""
    while True:
        pause = RECONNECT_SECONDS
        try:
            await router.verify_rejections(verify)
        except UnavailableError:
            pass  # the watch of flows reports that the router is away
        except FlowhookError as error:
            log.debug("not attached as a verifier", reason=error.reason)
            pause = REFUSED_SECONDS
        await asyncio.sleep(pause)
