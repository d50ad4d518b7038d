"""A runner for tests: attaches to a router and does what the test says, message by message."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager

import grpc.aio
from support.patience import PATIENCE

from flowhook.client import channel
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.v1 import runner_service_pb2_grpc
from flowhook.wire import convert


class TestRunner:
    """One attached stream. Methods send; `next` waits for a message of a kind and keeps others for later."""

    __test__ = False

    def __init__(self, call):
        self.call = call
        self._skipped = {}

    async def send(self, **message):
        await self.call.write(pb.AttachRequest(**message))

    async def credit(self, assignments):
        await self.send(credit=pb.Credit(assignments=assignments))

    async def next(self, kind):
        async with asyncio.timeout(PATIENCE):
            while kind not in self._skipped:
                message = await self.call.read()
                assert message, f"the stream ended before {kind}"
                for part in message.bundle.responses or (message,):
                    found = part.WhichOneof("message")
                    self._skipped.setdefault(found, deque()).append(getattr(part, found))
        messages = self._skipped[kind]
        message = messages.popleft()
        if not messages:
            del self._skipped[kind]
        return message

    async def assignments(self, count):
        found = []
        while len(found) < count:
            found += (await self.next("assignments")).assignments
        return found

    async def complete(self, assignment, output=b"{}", **outcome):
        await self.settle(pb.Outcome(lease=assignment.lease, completed=pb.Completed(output=output), **outcome))

    async def settle(self, *outcomes):
        await self.send(outcomes=pb.OutcomeBatch(outcomes=outcomes))
        return await self.next("settlement")

    async def checkpoint(self, assignment, index, key, output, **fields):
        entry = pb.JournalEntry(key=key, output=output)
        checkpoint = pb.Checkpoint(lease=assignment.lease, index=index, entry=entry, **fields)
        await self.send(checkpoints=pb.CheckpointBatch(checkpoints=[checkpoint]))

    async def fault(self, assignment, instance="", **outcome):
        error = {"type": "about:blank", "status": 500, "title": "no", "instance": instance}
        await self.settle(pb.Outcome(lease=assignment.lease, faulted=error, **outcome))

    async def park(
        self, assignment, wake_at=None, *, subscriptions=(), retry=None, retry_keys=(), destinations=(), **outcome
    ):
        """Park until `wake_at` (Unix time in s), or for no time, or until what is subscribed to comes."""
        parked = pb.Parked(subscriptions=subscriptions, retry=retry, retry_keys=retry_keys, destinations=destinations)
        if wake_at is not None:
            parked.wake_time.CopyFrom(convert.timestamp(int(wake_at * 1000)))
        await self.settle(pb.Outcome(lease=assignment.lease, parked=parked, **outcome))


def _narrow(target, token):
    """Connect with a window that does not grow: how far gRPC's own estimate lets it grow depends on what else runs."""
    options = [*channel.CHANNEL_OPTIONS, ("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 2**16)]
    return channel.AuthenticatedChannel(grpc.aio.insecure_channel(target, options=options), token)


@asynccontextmanager
async def runner_stub(router):
    """Connect to RunnerService with a runner's token."""
    connection = channel.connect(router.target, router.token("runner"))
    yield runner_service_pb2_grpc.RunnerServiceStub(connection)
    await connection.close(None)


@asynccontextmanager
async def attached(router, runner_id="r1", *, held=(), explained=True, credit=0, narrow=False):
    """Attach; a `narrow` stream holds 64 KiB that nobody read, another one what gRPC makes of the traffic it sees."""
    connection = (_narrow if narrow else channel.connect)(router.target, router.token("runner"))
    call = runner_service_pb2_grpc.RunnerServiceStub(connection).Attach()
    runner = TestRunner(call)
    await runner.send(
        hello=pb.Hello(runner_id=runner_id, components=["http"], held_leases=held, losses_explained=explained)
    )
    runner.welcome = await runner.next("welcome")
    if credit:
        await runner.credit(credit)
    try:
        yield runner
    finally:
        call.cancel()
        await connection.close(None)
