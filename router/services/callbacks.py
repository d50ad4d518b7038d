"""Stores callback events: requests to a flow for executions that wait for them, now or later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flowhook import limits
from flowhook.errors import ConflictError, InvalidError, NotFoundError
from flowhook.security import callback_tokens
from flowhook.v1 import envelope_pb2
from flowhook.wire import convert
from router.dispatch.event_delivery import EventDispatcher
from router.flows.admission import AdmissionControl, validate_and_serialize
from router.flows.parsing import InputParser
from router.secrets.callback_keys import CallbackKeys
from router.storage.model import NewInboundEvent
from router.storage.shard_state import ShardState

TOKEN_MS: Final = int(limits.CALLBACK_TOKEN_SECONDS * 1000)


class CallbackReceiver:
    """Receives the events sent to callbacks."""

    def __init__(
        self,
        *,
        admission: AdmissionControl,
        arrivals: EventDispatcher,
        state: ShardState,
        keys: CallbackKeys,
        parser: InputParser,
        now_ms: Callable[[], int],
    ) -> None:
        self._admission = admission
        self._arrivals = arrivals
        self._state = state
        self._keys = keys
        self._parser = parser
        self._now_ms = now_ms

    async def receive(self, message: envelope_pb2.Event, rejection_id: str = "") -> str:
        """Store an event for a callback; it is durable when this returns.

        Args:
            message: the event.
            rejection_id: ID of the rejection after which an operator accepted it, if so.

        Returns:
            ID of the earlier event this one duplicates, or empty.

        Raises:
            NotFoundError: there is no such flow (`FLOW_NOT_FOUND`), or its latest revision has no such callback, or
                the token is wrong, or is missing where there are only one-time URLs (`CALLBACK_NOT_FOUND`).
            ConflictError: the token was used, or is too old, or its execution has ended (`CALLBACK_GONE`); or several
                executions wait for an event that goes to one (`CALLBACK_AMBIGUOUS`).
            InvalidError: a field of the event is invalid, or the event is too large (`CALLBACK_TOO_LARGE`).
            ExhaustedError: the rate limit is exceeded (`RATE_LIMITED`), or too many events wait for a subscriber
                (`EVENT_BUFFER_FULL`), or to be parsed (`OVERLOADED`).
            UnavailableError: storage can't serve.
        """
        entry = self._admission.known(message.flow_id) or await self._admission.flow(message.flow_id)
        callback = entry.callbacks.get(message.callback)
        if callback is None or (callback.only_one_time and not message.callback_token):
            raise NotFoundError("the flow does not declare this callback", reason="CALLBACK_NOT_FOUND")
        validate_and_serialize(message, rejection_id)
        if message.HasField("body_blob"):
            raise InvalidError("a callback's event must carry its body inline", reason="BODY_BLOB_INVALID")
        token, execution_id = message.callback_token, ""
        if token:
            execution_id = callback_tokens.verify(self._keys.of(entry.id), message.callback, token)
        await self._admission.check_body(message, raw=callback.raw)
        self._admission.check_rate(callback.bucket)
        if execution_id:
            await self._check_age(execution_id)
        event = convert.event_from_proto(message)
        # the current time, not the edge's receive time: deduplication records expire by this clock
        now_ms = self._now_ms()
        arrival = NewInboundEvent(
            event_id=event.id,
            flow_id=entry.id,
            callback=True,
            type=event.callback,
            receive_time_ms=now_ms,
            payload=await self._parser.callback_event(event, raw=callback.raw),
            dedupe_key=event.dedupe_key,
            dedupe_until_ms=now_ms + int(callback.dedupe_seconds * 1000),
            execution_id=execution_id,
            token=token,
            token_until_ms=now_ms + TOKEN_MS,
            to_all=callback.to_all,
        )
        shapes = [] if execution_id else self._arrivals.shapes(entry.id, event.callback, callback=True)
        content = await self._parser.content(entry.id, arrival.payload, shapes)
        (appended,) = await self._arrivals.publish([arrival], content=content)
        if appended.gone:
            raise _gone()
        return appended.duplicate_of

    async def _check_age(self, execution_id: str) -> None:
        """Refuse a token that is too old; storage refuses the token of an execution that has ended."""
        record = (await self._state.find_by_ids([execution_id])).get(execution_id)
        if record is not None and self._now_ms() - record.receive_time_ms > TOKEN_MS:
            raise _gone()


def _gone() -> ConflictError:
    return ConflictError("the URL was already used, has expired, or its execution has ended", reason="CALLBACK_GONE")
