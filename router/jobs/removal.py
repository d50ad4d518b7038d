"""Deletes executions one by one, and erases their events, on behalf of operators."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Final

import attrs
from google.protobuf.message import DecodeError

from flowhook import limits
from flowhook.errors import ConflictError, NotFoundError
from flowhook.v1.envelope_pb2 import Event
from flowhook.v1.rejection_service_pb2 import Rejection
from flowhook.wire.event_body import read_event
from router.dispatch.shard_runtime import ShardRuntime
from router.storage.model import Erasure, ExecutionRecord
from router.storage.shard_state import ShardState
from router.storage.storage import Storage

REJECTED_BYTES: Final = 64 * limits.KIB  # bytes of a rejected request's body that are stored at most


@attrs.define(eq=False, repr=False)
class ExecutionRemoval:
    """Deletes executions that have ended, and erases events: with their replays and what else is stored of them."""

    _runtime: ShardRuntime
    _storage: Storage
    _state: ShardState = attrs.field(
        init=False, default=attrs.Factory(lambda self: self._runtime.parts.state, takes_self=True)
    )

    async def delete(self, execution_id: str) -> None:
        """Delete an execution that has ended.

        Raises:
            NotFoundError: there is no such execution (`EXECUTION_NOT_FOUND`).
            ConflictError: it, or a replay of its batch, has not ended (`EXECUTION_NOT_ENDED`), or another still needs
                it (`ORIGINAL_STORED`, `PARENT_NOT_ENDED`, `BATCH_STORED`).
        """
        record = await self._runtime.executions.find(execution_id)
        if not record.status.ended:
            raise ConflictError(f"{record.id} has not ended: {record.status}", reason="EXECUTION_NOT_ENDED")
        failed_id = await self._state.failed_before(record.seq)
        if failed_id is not None:  # without the replay, it would look as if nobody had dealt with it
            raise ConflictError(
                f"{record.id} replays the event of {failed_id}, which failed and is stored: delete that one first",
                reason="ORIGINAL_STORED",
            )
        if record.batch and record.batch != record.root:
            raise ConflictError(
                f"the event of {record.id} is in the batch of {record.batch}: delete that one first",
                reason="BATCH_STORED",
            )
        unended_id = await self._state.unended_run(record.id) if record.batch else None
        if unended_id is not None:
            raise ConflictError(
                f"{unended_id}, which has not ended, runs for the same batch", reason="EXECUTION_NOT_ENDED"
            )
        await self._check_parent(record)
        self._runtime.executions.check_turn(record)
        await self._state.delete([record.seq])

    async def erase(self, execution_id: str, *, cancel: bool, now_ms: int) -> Erasure:
        """Erase the event of an execution; `cancel`: after cancelling what has not ended.

        Raises:
            NotFoundError: there is no such execution, and it is not known to have been erased (`EXECUTION_NOT_FOUND`).
            ConflictError: it, a replay, or what runs for its batch has not ended (`EXECUTION_NOT_ENDED`), or the
                execution that started it (`PARENT_NOT_ENDED`).
            UnavailableError: storage can't serve; whether it was erased is unknown: repeat the call.
        """
        try:
            record = await self._runtime.executions.find(execution_id)
        except NotFoundError:
            return await self._state.erase(execution_id, rejections=(), now_ms=now_ms)
        await self._check_parent(record)
        first = await self._state.find(record.batch) if record.batch else None
        if first is not None:  # it ran for the event, and is erased, too
            await self._check_parent(first)
        self._runtime.executions.check_turn(record)
        while (unended_id := await self._state.unended_run(execution_id)) is not None:
            if not cancel:
                raise ConflictError(
                    f"{unended_id} has not ended: cancel it first, or let it be cancelled", reason="EXECUTION_NOT_ENDED"
                )
            try:
                await self._runtime.commands.cancel(unended_id)
            except ConflictError as error:
                if error.reason != "EXECUTION_ENDED":
                    raise
        return await self._state.erase(execution_id, rejections=await self._rejections_of(record), now_ms=now_ms)

    async def _check_parent(self, record: ExecutionRecord) -> None:
        parent_id = await self._parent_of(record)
        unended_id = await self._state.unended_run(parent_id) if parent_id else None
        if unended_id is not None:
            # it may wait for the result; or repeat what started this one, which would then run again
            raise ConflictError(
                f"{record.id} was started by {parent_id}, and {unended_id} has not ended: delete it later",
                reason="PARENT_NOT_ENDED",
            )

    async def _parent_of(self, record: ExecutionRecord) -> str:
        payload = (await self._state.payloads([record.seq], most_bytes=0)).get(record.seq)
        if payload is None:  # it is stored apart
            content = await self._state.content(record.seq)
            payload = b"" if content is None else content.payload
        try:
            return Event.FromString(payload).parent_execution_id
        except DecodeError:  # damaged: that must not keep it from being deleted
            return ""

    async def _rejections_of(self, record: ExecutionRecord) -> list[str]:
        """Return the IDs of the rejections of the flow that have the body of an execution's event."""
        body = await self._beginning_of_body(record)
        found: list[str] = []
        page = await self._storage.rejections.page(flow_id=record.flow_id)
        while page:
            contents = ((each.id, Rejection.FromString(each.content).body) for each in page)
            found += [id_ for id_, rejected in contents if rejected and rejected == body]
            page = await self._storage.rejections.page(flow_id=record.flow_id, before_number=page[-1].number)
        return found

    async def _beginning_of_body(self, record: ExecutionRecord) -> bytes:
        body_id = await self._state.body_of(record.id)
        if body_id is None:
            try:
                part = await self._state.read_payload(record.seq, partial(read_event, max_body_bytes=REJECTED_BYTES))
                return b"" if part is None else Event.FromString(part.event).body
            except (DecodeError, ValueError):  # damaged: that must not keep it from being erased
                return b""
        reader = await self._storage.bodies.open(body_id)
        if reader is None:
            return b""
        with closing(reader):
            return await reader.read(0, REJECTED_BYTES)
