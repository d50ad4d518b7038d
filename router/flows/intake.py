"""Takes in events: validates them, checks their flows' limits, recognises repeated ones, and stores them durably.

An event starts an execution, or is for a callback: for executions that wait for it, now or later. One `Intake` per
event passes through all steps, and each step fills in what it finds.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final

import attrs
from attrs import define

from flowhook import limits
from flowhook.document.models.webhook import BODYLESS_METHODS
from flowhook.errors import ConflictError, ExhaustedError, FlowhookError, InvalidError, NotFoundError, UnavailableError
from flowhook.events import ids
from flowhook.events.keys import MAX_NAME, MAX_PRIORITY, MAX_VALUE, Attributes, EventKeys, ShapingKeys
from flowhook.events.workflow_input import MAX_INLINE_BYTES
from flowhook.sandbox import INLINE_BYTES
from flowhook.security import callback_tokens
from flowhook.v1 import envelope_pb2
from flowhook.wire import convert
from router.calls import error_mapping
from router.calls.authorization import check_flow_permitted
from router.dispatch.shard_runtime import ShardRuntime
from router.flows.admission import NO_KEYS, AdmissionControl, event_id_taken
from router.flows.flow_table import FlowEntry
from router.flows.parsing import InputParser
from router.secrets.callback_keys import CallbackKeys
from router.secrets.flow_secrets import SecretMatches
from router.storage.bodies import BodyStore
from router.storage.commit_log.interface import OUTCOME_UNKNOWN
from router.storage.model import Appended, NewEvent, NewInboundEvent

TOKEN_MS: Final = int(limits.CALLBACK_TOKEN_SECONDS * 1000)

# most bytes of a serialized event without its body: those of an HTTP request's headers, and serialization overhead
MAX_ENVELOPE_BYTES: Final = 4 * limits.MAX_HEADER_BYTES
_BLOB_ID: Final = re.compile(r"[0-9a-f]{32}")
_HASH_BYTES: Final = 32

# errors that refuse new events only: an event stored earlier adds no load
_NOT_NOW = (ExhaustedError, UnavailableError, NotFoundError)
_invalid: Final = partial(InvalidError, reason="BODY_BLOB_INVALID")


@define(eq=False)
class Intake:
    """An event on its way into storage. When `EventIntake.store` returns it has an `error` or an `execution_id`."""

    message: envelope_pb2.Event  # the event as it came; missing fields are filled in
    rejection_id: str = ""  # ID of the rejection after which an operator accepted it; empty: it was not refused before
    alone: bool = False  # its caller waits for its reply: it is in no batch
    has_head: bool = False  # whether an edge has parsed it
    # what is appended to the log, once the event is admitted; None: before, and for callbacks
    event: NewEvent | None = None
    error: FlowhookError | None = None  # why it is not stored
    # the execution that runs for it; for a callback the event's own ID; of a duplicate the earlier one
    execution_id: str = ""
    receiver_id: str = ""  # the execution that the event of a one-time URL is for; empty: it is no such event
    seq: int = 0  # number of that execution; 0 for a callback
    duplicate: bool = False  # whether it was stored before
    rate_remaining: int | None = None  # what its rate limit permits after it; None: there is none

    def settle(self, appended: Appended) -> None:
        if appended.taken:
            self.error = event_id_taken()
        elif appended.body_missing:
            self.error = UnavailableError(
                "the uploaded body was discarded: the router was restarted, or no event named it within an hour",
                reason="BODY_LOST",
            )
        else:
            self.stored(appended.seq, appended.duplicate_of)

    def stored(self, seq: int, duplicate_of: str = "") -> None:
        """Record that the event is stored, or that the event of that ID was stored before."""
        self.error = None
        self.seq = seq
        self.execution_id = duplicate_of or (self.message.id if self.event is None else self.event.event_id)
        self.duplicate = bool(duplicate_of)


@attrs.define(eq=False, repr=False, kw_only=True)
class EventIntake:
    """Stores events that come from outside: from edges, services, and operators who accept refused requests."""

    _runtime: ShardRuntime
    _admission: AdmissionControl
    _parser: InputParser
    _bodies: BodyStore
    _keys: CallbackKeys
    _matches: SecretMatches
    # events passed to storage that the scheduling core does not count yet
    _storing: int = attrs.field(init=False, default=0)
    _storing_by_flow: dict[str, int] = attrs.field(init=False, factory=dict)
    # bytes of bodies parsed since control was last yielded to the event loop
    _read_bytes: int = attrs.field(init=False, default=0)

    async def store(self, intakes: Collection[Intake]) -> None:
        """Store events; each succeeds or fails on its own, and those that succeed are durable when this returns.

        Raises:
            InvalidError: there are too many bytes (`BATCH_INVALID`); nothing is stored.
        """
        now_ms = self._runtime.parts.now_ms()
        starts: list[Intake] = []
        callbacks: list[Intake] = []
        for intake in intakes:
            message = intake.message
            intake.has_head = bool(message.head)
            if not (intake.has_head and message.id):  # an edge sets both
                fill_defaults(message, now_ms)
            (callbacks if message.callback else starts).append(intake)
        if callbacks:
            # before any of them is stored; `_start` counts bytes of its own, which costs less
            _check_size(sum(intake.message.ByteSize() for intake in intakes))
            await asyncio.gather(self._start(starts), *map(self._call_back, callbacks))
        else:
            await self._start(starts)
        metrics = self._runtime.parts.metrics
        for intake in intakes:
            if intake.duplicate:
                metrics.repeated(intake.message.flow_id)
            elif intake.error is not None:
                flow_id = intake.message.flow_id
                # whoever may ingest can name any flow
                metrics.rejected(flow_id if self._admission.known(flow_id) else None, intake.error.reason)

    # --- events that start executions ---------------------------------------------------------------------------------

    async def _start(self, intakes: Sequence[Intake]) -> None:
        try:
            for intake in intakes:
                await self._admit(intake)
            await self._find_stored([each for each in intakes if isinstance(each.error, _NOT_NOW)])
            admitted = [(intake, intake.event) for intake in intakes if intake.event is not None]
            _check_size(sum(len(event.payload) for _, event in admitted))
            if admitted:
                appended = await self._runtime.append([event for _, event in admitted])
                for (intake, _), result in zip(admitted, appended, strict=True):
                    intake.settle(result)
        except UnavailableError as error:
            for intake in intakes:
                if not intake.execution_id:
                    intake.error = intake.error or error
        finally:
            self._release(intakes)
        for intake in intakes:
            message = intake.message
            rejected = intake.error is not None and intake.error.reason not in OUTCOME_UNKNOWN
            if rejected and message.HasField("body_blob"):
                self._bodies.discard(message.body_blob.id, message.flow_id)

    async def _admit(self, intake: Intake) -> None:
        """Check an event and count it as being stored, until `_release`; or set its error."""
        flow_id = intake.message.flow_id
        try:
            check_flow_permitted(flow_id)
            entry = self._admission.known(flow_id) or await self._admission.flow(flow_id)
            intake.event = await self._checked(intake, entry)
        except FlowhookError as error:
            intake.error = error
        except Exception as error:  # noqa: BLE001 - it must not affect the others of the batch
            intake.error = error_mapping.internal_error("IngestService.IngestEvents", error)

    async def _checked(self, intake: Intake, entry: FlowEntry) -> NewEvent:
        message = intake.message
        # they are stored apart; those of another flow are part of its payload, and are not read
        attributes = pop_attributes(message) if entry.keys.search else ()
        is_shaped = bool(entry.keys.shaping)
        shaping = pop_shaping(message) if is_shaped else None
        payload = validate_and_serialize(message, entry.slot, intake.rejection_id)
        # fast path for the most common events: an edge parsed them, and knows the flow's current revision
        if (
            intake.has_head
            and message.flow_revision == entry.revision
            and message.HasField("order_key")
            and (shaping is not None or not is_shaped)
        ):
            order_key = message.order_key
        else:
            order_key, attributes, shaping = await self._made_keys(entry, message)
        if order_key and len(order_key.encode()) > limits.MAX_ORDER_KEY_BYTES:
            raise InvalidError(
                f"the order key has more than {limits.MAX_ORDER_KEY_BYTES} bytes", reason="ORDER_KEY_INVALID"
            )
        if shaping is not None:
            if shaping.rate:
                self._admission.check_rate_key(entry.id, shaping.rate)
            if entry.batches:
                shaping = shaping.without_group() if intake.alone else _batched(shaping, entry, message, len(payload))
        self._admission.admit(entry, self._storing, self._storing_by_flow.get(entry.id, 0))
        if entry.bucket is not None:
            intake.rate_remaining = entry.bucket.remaining
        self._storing += 1
        self._storing_by_flow[entry.id] = self._storing_by_flow.get(entry.id, 0) + 1
        received_ms = convert.milliseconds(message.receive_time)
        if message.HasField("principal"):
            self._matches.note(entry.id, message.principal.secret, received_ms)
        dedupe_key = message.dedupe_key
        # by the router's clock, whatever that of the edge shows; a request that is accepted after it was refused counts
        # as of its own time
        at_ms = received_ms if intake.rejection_id else self._runtime.parts.now_ms()
        return NewEvent(
            message.id,
            entry.id,
            entry.revision,
            received_ms,
            payload,
            dedupe_key,
            at_ms + int(entry.dedupe_seconds * 1000) if dedupe_key else 0,
            order_key=order_key,
            body=message.body_blob.id if message.HasField("body_blob") else "",
            attributes=attributes,
            dedupe_at_ms=at_ms,
            shaping=shaping,
        )

    async def _made_keys(self, entry: FlowEntry, message: envelope_pb2.Event) -> EventKeys:
        """Return the order key that an event carries, or else evaluate its flow's `order_by`; and its attributes.

        A key from an edge that used another revision of the flow is ignored: that edge has not received the latest yet.
        The body of an event that no edge has parsed is checked as well; for errors see `InputParser.check`.
        """
        is_current = message.HasField("order_key") and message.flow_revision in (0, entry.revision)
        expressions = NO_KEYS if is_current and not (entry.keys.search or entry.keys.shaping) else entry.keys
        is_unparsed = has_unparsed_body(message)
        if is_unparsed:
            self._read_bytes += len(message.body)
            if self._read_bytes > INLINE_BYTES:  # each body is small, but together those of a batch may be large
                self._read_bytes = 0
                await asyncio.sleep(0)
        made = EventKeys()
        if is_unparsed and not entry.raw:
            made = await self._parser.check(convert.event_from_proto(message), expressions)
        elif expressions:
            made = await self._parser.keys(expressions, convert.event_from_proto(message))
        return made._replace(order_key=message.order_key) if is_current else made

    async def _find_stored(self, refused: Sequence[Intake]) -> None:
        """Find the executions of refused events that were stored earlier.

        A caller that retries a call whose response was lost must not receive an error.
        """
        known = (
            await self._runtime.parts.state.find_by_ids([intake.message.id for intake in refused]) if refused else {}
        )
        for intake in refused:
            record = known.get(intake.message.id)
            if record is not None and record.flow_id == intake.message.flow_id:
                intake.stored(record.seq, record.id)

    def _release(self, intakes: Sequence[Intake]) -> None:
        for intake in intakes:
            if intake.event is None:
                continue
            flow_id = intake.event.flow_id
            self._storing -= 1
            self._storing_by_flow[flow_id] -= 1
            if not self._storing_by_flow[flow_id]:
                del self._storing_by_flow[flow_id]

    # --- events for callbacks -----------------------------------------------------------------------------------------

    async def _call_back(self, intake: Intake) -> None:
        message = intake.message
        try:
            check_flow_permitted(message.flow_id)
            entry = self._admission.known(message.flow_id) or await self._admission.flow(message.flow_id)
            earlier = await self._publish(intake, entry)
            if message.HasField("principal"):
                self._matches.note(message.flow_id, message.principal.secret, self._runtime.parts.now_ms())
            intake.stored(0, earlier)
            if not earlier:
                self._runtime.statistics.called_back(message.flow_id, self._runtime.parts.now_ms())
        except FlowhookError as error:
            intake.error = error
        except Exception as error:  # noqa: BLE001 - it must not affect the others of the batch
            intake.error = error_mapping.internal_error("IngestService.IngestEvents", error)

    async def _publish(self, intake: Intake, entry: FlowEntry) -> str:
        """Store an event for a callback; return the ID of the earlier event that it duplicates, or an empty string.

        Raises:
            NotFoundError: the latest revision of the flow has no such callback, or the token is wrong, or is missing
                where there are only one-time URLs (`CALLBACK_NOT_FOUND`).
            ConflictError: the token was used, or is too old, or its execution has ended (`CALLBACK_GONE`); or several
                executions wait for an event that goes to one (`CALLBACK_AMBIGUOUS`).
            InvalidError: a field of the event is invalid, or the event is too large (`CALLBACK_TOO_LARGE`).
            ExhaustedError: the rate limit is exceeded (`RATE_LIMITED`), or too many events wait for a subscriber
                (`EVENT_BUFFER_FULL`), or to be parsed (`OVERLOADED`).
            UnavailableError: storage can't serve.
        """
        message = intake.message
        callback = entry.callbacks.get(message.callback)
        if callback is None or (callback.only_one_time and not message.callback_token):
            raise NotFoundError("the flow does not declare this callback", reason="CALLBACK_NOT_FOUND")
        validate_and_serialize(message, entry.slot, intake.rejection_id)
        if message.HasField("body_blob"):
            raise InvalidError("a callback's event must carry its body inline", reason="BODY_BLOB_INVALID")
        token, execution_id = message.callback_token, ""
        if token:
            execution_id = callback_tokens.verify(self._keys.of(entry.id), message.callback, token)
            intake.receiver_id = execution_id
        event = convert.event_from_proto(message)
        if has_unparsed_body(message) and not callback.raw:
            await self._parser.check(event, NO_KEYS)
        self._admission.check_rate(callback.bucket)
        if callback.bucket is not None:
            intake.rate_remaining = callback.bucket.remaining
        if execution_id:
            # too old a token; storage refuses that of an execution that has ended
            record = (await self._runtime.parts.state.find_by_ids([execution_id])).get(execution_id)
            if record is not None and self._runtime.parts.now_ms() - record.receive_time_ms > TOKEN_MS:
                raise _gone()
        # the current time, not the edge's receive time: deduplication records expire by this clock
        now_ms = self._runtime.parts.now_ms()
        inbound = NewInboundEvent(
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
        shapes = [] if execution_id else self._runtime.events.shapes(entry.id, event.callback, callback=True)
        content = await self._parser.content(entry.id, inbound.payload, shapes)
        (appended,) = await self._runtime.events.publish([inbound], content=content)
        if appended.gone:
            raise _gone()
        return appended.duplicate_of


def _gone() -> ConflictError:
    return ConflictError("the URL was already used, has expired, or its execution has ended", reason="CALLBACK_GONE")


def _check_size(size: int) -> None:
    if size > limits.MAX_BATCH_BYTES:
        raise InvalidError(
            f"a batch must have at most {limits.MAX_BATCH_BYTES} serialized bytes", reason="BATCH_INVALID"
        )


def pop_attributes(message: envelope_pb2.Event) -> Attributes:
    """Remove the search attributes that an edge computed from an event, and return them: they are stored apart."""
    attributes = tuple((each.name, each.value) for each in message.attributes)
    message.ClearField("attributes")
    names = {name for name, _ in attributes}
    if len(attributes) > limits.MAX_SEARCH_ATTRIBUTES or len(names) < len(attributes):
        raise InvalidError(
            f"an event has at most {limits.MAX_SEARCH_ATTRIBUTES} search attributes, each once",
            reason="SEARCH_ATTRIBUTES_INVALID",
        )
    if not all(0 < len(name) <= MAX_NAME and 0 < len(value) <= MAX_VALUE for name, value in attributes):
        raise InvalidError(
            f"search attributes have names of 1 to {MAX_NAME} and values of 1 to {MAX_VALUE} characters",
            reason="SEARCH_ATTRIBUTES_INVALID",
        )
    return attributes


def pop_shaping(message: envelope_pb2.Event) -> ShapingKeys | None:
    """Remove the keys of shaping that an edge computed, and return them; None: none did, or they are not valid."""
    if not message.HasField("shaping"):
        return None
    given = message.shaping
    keys = ShapingKeys(given.rate, given.concurrency, given.priority, given.group)
    message.ClearField("shaping")
    made = (keys.rate, keys.concurrency, keys.group)
    too_long = any(len(key.encode()) > limits.MAX_ORDER_KEY_BYTES for key in made)
    return None if too_long or not 0 <= keys.priority <= MAX_PRIORITY else keys


def _batched(shaping: ShapingKeys, entry: FlowEntry, message: envelope_pb2.Event, size: int) -> ShapingKeys:
    """Return the keys of an event that is to be batched, with its size, as its input has it."""
    return shaping.batched(entry.revision, size + min(message.body_blob.size, MAX_INLINE_BYTES))


def fill_defaults(message: envelope_pb2.Event, now_ms: int) -> None:
    """Fill in the fields that edges always set and services may omit: ID, time of receipt and method."""
    if not message.id:
        message.id = ids.mint(ids.slot_of(message.flow_id), now_ms=now_ms)
    if not message.HasField("receive_time"):
        message.receive_time.CopyFrom(convert.timestamp(now_ms))
    if not (message.method or message.head):
        message.method = "POST"


def has_unparsed_body(message: envelope_pb2.Event) -> bool:
    if message.head or message.HasField("body_blob"):
        return False
    return bool(message.body) or message.method not in BODYLESS_METHODS


def validate_and_serialize(message: envelope_pb2.Event, slot: int, rejection_id: str = "") -> bytes:
    """Check an event of a flow that has a slot, see `ids.slot_of`, and return it as it is stored.

    Each field is read once: protobuf makes a new value of it each time, in 50 to 100 ns.
    """
    if ids.slot_of_event(message.id) != slot:
        raise InvalidError(
            "the event's ID was generated for another flow; leave it empty, and the router generates one",
            reason="EVENT_ID_INVALID",
        )
    set_here = message.origin or message.depth or message.rejection_id or message.parent_execution_id or message.batch
    if set_here or message.HasField("replay"):
        said = "`origin`, `depth`, `rejection_id`, `replay`, `parent_execution_id` and `batch` must not be set"
        raise InvalidError(f"{said}: the router sets them", reason="ORIGIN_INVALID")
    if rejection_id:
        message.rejection_id = rejection_id
    if message.callback_token and not message.callback:
        raise InvalidError("`callback_token` requires `callback`", reason="CALLBACK_NOT_NAMED")
    payload, size, dedupe_key = message.SerializeToString(), len(message.body), message.dedupe_key
    if size > limits.MAX_BODY_BYTES:
        raise InvalidError(f"the body must have at most {limits.MAX_BODY_BYTES} bytes", reason="BODY_TOO_LARGE")
    envelope = len(payload) - size
    if message.HasField("body_blob"):
        _check_blob(message)
        envelope -= min(envelope, limits.MAX_FORM_BYTES + limits.MAX_PARTS_BYTES)
    if envelope > MAX_ENVELOPE_BYTES:
        raise InvalidError(
            f"the event without its body must have at most {MAX_ENVELOPE_BYTES} serialized bytes",
            reason="EVENT_TOO_LARGE",
        )
    if dedupe_key and len(dedupe_key.encode()) > limits.MAX_DEDUPE_KEY_BYTES:
        raise InvalidError(
            f"the dedupe key has more than {limits.MAX_DEDUPE_KEY_BYTES} bytes", reason="DEDUPE_KEY_INVALID"
        )
    if not 0 <= message.receive_time.seconds <= convert.MAX_SECONDS:
        raise InvalidError("`receive_time` must be in the years 1970 to 9999", reason="RECEIVE_TIME_INVALID")
    return payload


def _check_blob(message: envelope_pb2.Event) -> None:
    blob = message.body_blob
    if message.body or not _BLOB_ID.fullmatch(blob.id) or len(blob.sha256) != _HASH_BYTES:
        raise _invalid("an event must have either a body, or a blob with ID, size and SHA-256")
    if not 0 < blob.size <= limits.MAX_STREAMED_BODY_BYTES:
        raise _invalid(f"the size of a blob must be 1 to {limits.MAX_STREAMED_BODY_BYTES} bytes")
    if len(message.parts) > limits.MAX_PARTS or len(message.form) > limits.MAX_FORM_BYTES:
        raise _invalid("too many parts, or too many bytes of form fields")
    # only the runner parses it fully, where that may take time: an invalid form harms nothing but its own event
    form = message.form
    if form and not (form.startswith(b"{") and form.endswith(b"}")):
        raise _invalid("`form` must be a JSON object")
    for part in message.parts:
        if not 0 <= part.offset <= part.offset + part.size <= blob.size or len(part.sha256) != _HASH_BYTES:
            raise _invalid("a part exceeds the body, or has no SHA-256")
