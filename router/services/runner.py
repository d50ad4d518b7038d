"""RunnerService: the router's end of the Attach stream.

Reading and writing are two loops over one stream. What is to be sent gathers in an outbox while an earlier write is
under way, so that messages grow with the load. The outbox needs no limit of its own: assignments are bounded by
credit, everything else by what the runner sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

from flowhook import limits, logs
from flowhook.errors import FlowhookError, InvalidError, UnavailableError
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.v1 import runner_service_pb2_grpc
from flowhook.wire import convert
from router.dispatch.host import ShardHost
from router.dispatch.link import Checkpoint, Completed, Delivery, Outcome, Released
from router.services import guarded

MAX_BATCH_BYTES: Final = limits.MAX_MESSAGE_BYTES // 4
"""Payloads and journals that go into one message; a larger assignment goes alone."""

MAX_RUNNER_ID: Final = 63

log = logs.get_logger(__name__)


class Link:
    """One attached runner, as the host sees it; gathers messages for the writing loop."""

    def __init__(self, runner_id: str) -> None:
        self._runner_id = runner_id
        self._assignments: list[pb.Assignment] = []
        self._acknowledged: dict[bytes, int] = {}
        self._settled: list[bytes] = []
        self._revoked: dict[str, list[bytes]] = {}
        self._drain: float | None = None
        self.error: FlowhookError | None = None
        self.woken = asyncio.Event()

    @property
    def runner_id(self) -> str:
        """Unique among runners."""
        return self._runner_id

    def assign(self, deliveries: Sequence[Delivery]) -> None:
        """Hand over work."""
        for token, attempt, revision, payload, journal in deliveries:
            assignment = pb.Assignment(lease=token, attempt=attempt, flow_revision=revision, event=payload)
            if journal:
                assignment.journal.extend(convert.journal_entry_to_proto(entry) for entry in journal)
            self._assignments.append(assignment)
        self.woken.set()

    def acknowledge(self, token: bytes, position: int) -> None:
        """Tell how far the journal of an execution is durable."""
        self._acknowledged[token] = max(position, self._acknowledged.get(token, 0))
        self.woken.set()

    def settle(self, tokens: Sequence[bytes]) -> None:
        """Tell which outcomes are durable."""
        self._settled += tokens
        self.woken.set()

    def revoke(self, tokens: Sequence[bytes], reason: str) -> None:
        """Tell which leases are gone."""
        self._revoked.setdefault(reason, []).extend(tokens)
        self.woken.set()

    def drain(self, grace: float) -> None:
        """Tell that this router is going away in `grace` seconds."""
        self._drain = grace
        self.woken.set()

    def close(self, error: FlowhookError) -> None:
        """End the stream once what was gathered is sent."""
        self.error = error
        self.woken.set()

    def take(self) -> list[pb.AttachResponse]:
        """Take everything that was gathered, as messages."""
        self.woken.clear()
        messages: list[pb.AttachResponse] = []
        if self._settled:
            messages.append(pb.AttachResponse(settlement=pb.Settlement(leases=self._settled)))
            self._settled = []
        if self._acknowledged:
            durable = [pb.DurableCheckpoint(lease=lease, index=index) for lease, index in self._acknowledged.items()]
            messages.append(pb.AttachResponse(checkpointed=pb.CheckpointAck(checkpoints=durable)))
            self._acknowledged = {}
        for reason, leases in self._revoked.items():
            messages.append(pb.AttachResponse(revocation=pb.Revocation(leases=leases, reason=reason)))
        self._revoked = {}
        if self._assignments:
            assignments, self._assignments = self._assignments, []
            messages += [
                pb.AttachResponse(assignments=pb.AssignmentBatch(assignments=batch)) for batch in _batches(assignments)
            ]
        if self._drain is not None:
            messages.append(pb.AttachResponse(drain=pb.Drain(grace=convert.duration(self._drain))))
            self._drain = None
        return messages


class RunnerService(runner_service_pb2_grpc.RunnerServiceServicer):
    """See protos/flowhook/v1/runner_service.proto."""

    def __init__(self, *, host: ShardHost, lease_seconds: float) -> None:
        self._host = host
        self._lease_seconds = lease_seconds
        self._links: set[Link] = set()
        self._components: dict[Link, frozenset[str]] = {}
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()

    def components(self) -> frozenset[str] | None:
        """Return what attached runners can call, None when none is attached."""
        return frozenset().union(*self._components.values()) if self._components else None

    async def drain(self, grace: float) -> None:
        """Tell all runners to attach elsewhere, and wait up to `grace` seconds for them to leave."""
        self._closing = True
        for link in self._links:
            link.drain(grace)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._idle.wait()
        for link in self._links:
            link.close(UnavailableError("the router stops", reason="ROUTER_STOPPED"))

    @guarded.method
    async def Attach(  # type: ignore[override] # noqa: N802 - grpc.aio takes a coroutine that writes, too
        self, request_iterator: AsyncIterator[pb.AttachRequest], context: guarded.Context
    ) -> None:
        """Hold one runner's stream until either side ends it."""
        link, welcome = self._welcome(await _first(request_iterator))
        try:
            await context.write(welcome)
            log.info("runner attached", runner=link.runner_id)
            reading = asyncio.create_task(self._read(link, request_iterator))
            reading.add_done_callback(lambda _: link.woken.set())
            try:
                await self._write(link, reading, context)
            finally:
                reading.cancel()
        finally:
            self._links.discard(link)
            self._components.pop(link, None)
            self._host.detach(link)
            if not self._links:
                self._idle.set()
            log.info("runner detached", runner=link.runner_id)

    async def _write(self, link: Link, reading: asyncio.Task[None], context: guarded.Context) -> None:
        while link.error is None and not reading.done():
            await link.woken.wait()
            for message in link.take():
                await context.write(message)
        if link.error is not None:
            raise link.error
        await reading

    def _welcome(self, request: pb.AttachRequest) -> tuple[Link, pb.AttachResponse]:
        hello = request.hello
        if request.WhichOneof("message") != "hello" or not 0 < len(hello.runner_id) <= MAX_RUNNER_ID:
            raise _violation("the first message is a hello with a runner ID of 1 to 63 characters")
        if self._closing:
            raise UnavailableError("the router stops", reason="ROUTER_STOPPED")
        link = Link(hello.runner_id)
        kept = self._host.attach(link, hello.held_leases, explained=hello.losses_explained)
        self._links.add(link)
        self._idle.clear()
        self._components[link] = frozenset(hello.components)
        return link, pb.AttachResponse(
            welcome=pb.Welcome(lease_duration=convert.duration(self._lease_seconds), kept_leases=kept)
        )

    async def _read(self, link: Link, requests: AsyncIterator[pb.AttachRequest]) -> None:
        async for request in requests:
            kind = request.WhichOneof("message")
            if kind == "outcomes":
                await self._host.settle(link, [_outcome(outcome) for outcome in request.outcomes.outcomes])
            elif kind == "credit":
                if not self._host.add_credit(link, request.credit.assignments):
                    raise _violation("credit is 1 to 1024 at a time, and at most 4096 may be outstanding")
            elif kind == "checkpoints":
                await self._host.checkpoint(link, [_checkpoint(item) for item in request.checkpoints.checkpoints])
            elif kind == "renewal":
                self._host.renew(link)
            elif kind == "hello":
                raise _violation("a stream has one hello")


async def _first(requests: AsyncIterator[pb.AttachRequest]) -> pb.AttachRequest:
    try:
        return await anext(requests)
    except StopAsyncIteration:
        raise _violation("the stream ended before its hello") from None


def _violation(message: str) -> InvalidError:
    return InvalidError(message, reason="ATTACH_PROTOCOL_VIOLATION")


def _batches(assignments: Sequence[pb.Assignment]) -> list[list[pb.Assignment]]:
    """Split assignments into messages of at most `MAX_BATCH_BYTES`, or of one that is larger."""
    batches: list[list[pb.Assignment]] = [[]]
    size = 0
    for assignment in assignments:
        its_size = assignment.ByteSize()
        if batches[-1] and size + its_size > MAX_BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(assignment)
        size += its_size
    return batches


def _checkpoint(message: pb.Checkpoint) -> Checkpoint:
    return Checkpoint(message.lease, message.index, convert.journal_entry_from_proto(message.entry))


def _outcome(message: pb.Outcome) -> Outcome:
    checkpoints = tuple(_checkpoint(item) for item in message.checkpoints)
    kind = message.WhichOneof("result")
    if kind == "completed":
        completed = message.completed
        reply = completed.reply.SerializeToString() if completed.HasField("reply") else None
        return Outcome(message.lease, checkpoints, Completed(completed.output, reply))
    if kind == "faulted":
        return Outcome(message.lease, checkpoints, convert.error_from_proto(message.faulted))
    return Outcome(message.lease, checkpoints, Released(message.released.reason, message.released.charged))
