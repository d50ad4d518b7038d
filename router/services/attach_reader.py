"""Stores the reports of a runner durably, in order and in batches.

Reading continues while storage writes; reports read meanwhile are stored in one batch, so that batches grow with the
load and no report waits in the stream behind another one's write. Back-pressure: while a runner has sent more than
could be stored, its stream is not read further.
"""

from __future__ import annotations

import asyncio

from flowhook.attach import codec
from flowhook.attach.limits import protocol_violation
from router.dispatch.shard_runtime import ShardRuntime
from router.services.attach_writer import AttachWriter
from router.session import AddCredit, Effect, RenewLeases, RunnerSession, StoreReports, Subscribe


class AttachReader:
    """Processes the messages of one attached runner."""

    def __init__(self, host: ShardRuntime, link: AttachWriter, session: RunnerSession) -> None:
        """Store what the runner behind `link` reports through `host`."""
        self._host = host
        self._link = link
        self._session = session
        self._reports = session.reports
        self._woken = asyncio.Event()
        self._room = asyncio.Event()
        self._ending = False

    async def put(self, request: codec.Request) -> None:
        """Process a message from the stream; wait while too much is not stored yet.

        Raises:
            InvalidError: the runner violates the protocol.
        """
        for message, size in codec.decode_request(request):
            for effect in self._session.receive(message, size):
                self._apply(effect)
        if self._reports:
            self._woken.set()
        while self._reports.full:
            self._room.clear()
            await self._room.wait()

    def _apply(self, effect: Effect) -> None:
        match effect:
            case AddCredit(assignments=assignments):
                if not self._host.add_credit(self._link, assignments):
                    raise protocol_violation("at most 4096 assignments of credit may be outstanding")
            case RenewLeases(stamp=stamp):
                if self._host.renew(self._link):  # else its leases are lost, and the stream is about to end
                    self._link.renewed(stamp)

    def end(self) -> None:
        """Let `record` return once all reports are stored."""
        self._ending = True
        self._woken.set()

    async def record(self) -> None:
        """Store reports until `end` is called and there are none left."""
        while self._reports or not self._ending:
            await self._woken.wait()
            self._woken.clear()
            while self._reports:
                for effect in self._reports.take():
                    if self._host.is_superseded(self._link):
                        continue  # the runner sends all of it again on its new stream
                    match effect:
                        case StoreReports():
                            await self._store(effect)
                        case Subscribe(update=update):
                            self._host.listen(self._link, update)
                self._reports.stored()
                self._room.set()

    async def _store(self, reports: StoreReports) -> None:
        recorder = self._host.recorder
        await asyncio.gather(
            *([recorder.checkpoint(self._link, reports.checkpoints)] if reports.checkpoints else []),
            *([recorder.settle(self._link, reports.outcomes)] if reports.outcomes else []),
        )
        # the stream may have been superseded meanwhile: then the checkpoints that these follow are not stored
        if reports.later_outcomes and not self._host.is_superseded(self._link):
            await recorder.settle(self._link, reports.later_outcomes)
