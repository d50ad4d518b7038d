"""Records the messages of a runner durably, in order and in batches.

Reading continues while storage writes; messages read meanwhile are recorded in one batch, so that batches grow with the
load and no message waits in the stream behind another one's write. Back-pressure: while a runner has sent more than
could be recorded, its stream is not read further.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Final

from flowhook import limits
from flowhook.v1 import runner_service_pb2 as pb
from router.dispatch.runner_port import AttemptOutcome, ReportedCheckpoint
from router.dispatch.shard_runtime import ShardRuntime
from router.services.attach_codec import decode_checkpoint, decode_live_subscriptions, decode_outcome
from router.services.attach_writer import AttachWriter

MAX_UNRECORDED_BYTES: Final = limits.MAX_MESSAGE_BYTES
"""Bytes of messages that may wait to be recorded before reading stops."""

MAX_RECORD_BYTES: Final = 8 * limits.MIB
"""Bytes of messages recorded in one batch, or one larger message: other runners need to write, too."""


class AttachReader:
    """The messages of one attached runner that wait to be recorded."""

    def __init__(self, host: ShardRuntime, link: AttachWriter) -> None:
        """Record the messages of the runner behind `link` through `host`."""
        self._host = host
        self._link = link
        self._unrecorded: deque[tuple[pb.AttachRequest, int]] = deque()
        self._bytes = 0
        self._woken = asyncio.Event()
        self._room = asyncio.Event()
        self._ending = False

    async def put(self, message: pb.AttachRequest) -> None:
        """Queue a message to be recorded; wait while the queue is full."""
        size = message.ByteSize()
        self._unrecorded.append((message, size))
        self._bytes += size
        self._woken.set()
        while self._bytes > MAX_UNRECORDED_BYTES:
            self._room.clear()
            await self._room.wait()

    def end(self) -> None:
        """Let `record` return once all messages are recorded."""
        self._ending = True
        self._woken.set()

    async def record(self) -> None:
        """Record queued messages until `end` is called and the queue is empty.

        Raises:
            InvalidError: the runner breaks the protocol.
        """
        while self._unrecorded or not self._ending:
            await self._woken.wait()
            self._woken.clear()
            while self._unrecorded:
                messages, size = self._take()
                await self._record(messages)
                self._bytes -= size
                self._room.set()

    def _take(self) -> tuple[list[pb.AttachRequest], int]:
        messages: list[pb.AttachRequest] = []
        taken = 0
        while self._unrecorded and taken < MAX_RECORD_BYTES:
            message, size = self._unrecorded.popleft()
            messages.append(message)
            taken += size
        return messages, taken

    async def _record(self, messages: Sequence[pb.AttachRequest]) -> None:
        checkpoints: list[ReportedCheckpoint] = []
        outcomes: list[AttemptOutcome] = []
        for message in messages:
            kind = message.WhichOneof("message")
            if kind == "checkpoints":
                checkpoints += map(decode_checkpoint, message.checkpoints.checkpoints)
            elif kind == "outcomes":
                outcomes += map(decode_outcome, message.outcomes.outcomes)
            elif kind == "listening":
                # it withdraws delivered events that no earlier checkpoint has accepted
                await self._store(checkpoints, outcomes)
                checkpoints, outcomes = [], []
                for item in message.listening.listening:
                    if not self._host.is_superseded(self._link):
                        self._host.listen(self._link, decode_live_subscriptions(item))
        await self._store(checkpoints, outcomes)

    async def _store(self, checkpoints: Sequence[ReportedCheckpoint], outcomes: Sequence[AttemptOutcome]) -> None:
        """Store journal entries and outcomes concurrently, each outcome after the entries of its execution."""
        if self._host.is_superseded(self._link):
            return  # the runner sends all of it again on its new stream
        journals: dict[bytes, list[ReportedCheckpoint]] = defaultdict(list)
        for entry in checkpoints:
            journals[entry.token].append(entry)
        at_once: list[AttemptOutcome] = []
        later: list[AttemptOutcome] = []
        for each in outcomes:
            if any(entry.arrival for entry in journals.get(each.token, ())):
                later.append(each)  # it must first be checked whether the execution may accept that event
            else:
                entries = journals.pop(each.token, [])
                at_once.append(each._replace(checkpoints=(*entries, *each.checkpoints)))
        recorder = self._host.recorder
        entries = [entry for each in journals.values() for entry in each]
        await asyncio.gather(
            *([recorder.checkpoint(self._link, entries)] if entries else []),
            *([recorder.settle(self._link, at_once)] if at_once else []),
        )
        if later:
            await recorder.settle(self._link, later)
