"""Admission control: decides whether an event may be stored, by flow, backlog, rate limit and validity."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final

from flowhook import limits
from flowhook.errors import ExhaustedError, InvalidError, NotFoundError, UnavailableError
from flowhook.events import ids
from flowhook.events.event_keys import EventKeys, KeyExpressions
from flowhook.events.search_attributes import MAX_ATTRIBUTES, MAX_NAME, MAX_VALUE, Attributes
from flowhook.model import Event, Origin
from flowhook.sharing.token_bucket import TokenBucket
from flowhook.v1 import envelope_pb2
from flowhook.wire import convert
from router.dispatch.shard_runtime import ShardRuntime
from router.flows.flow_table import FlowEntry, FlowTable
from router.flows.parsing import InputParser

MAX_ENVELOPE_BYTES: Final = 4 * limits.MAX_HEADER_BYTES
"""Most bytes of a serialized event without its body: those of an HTTP request's headers, and serialization overhead."""

MAX_SECONDS: Final = 253_402_300_799
"""The last second of 9999 (Unix time), the greatest that a protobuf timestamp may hold."""

BODYLESS_METHODS: Final = frozenset({"GET", "DELETE"})
"""Methods whose requests are complete without a body, whatever their Content-Type."""

NO_KEYS: Final = KeyExpressions()
"""For flows that neither order events nor declare search attributes."""

_BLOB_ID: Final = re.compile(r"[0-9a-f]{32}")
_HASH_BYTES: Final = 32


class AdmissionControl:
    """Admission checks for events, shared by all components that start executions."""

    def __init__(
        self,
        *,
        host: ShardRuntime,
        flows: FlowTable,
        parser: InputParser,
        total_backlog: int,
        clock: Callable[[], float],
    ) -> None:
        self._host = host
        self._parser = parser
        self._flows = flows
        self._total_backlog = total_backlog
        self._clock = clock

    def latest_revision(self, flow_id: str) -> int:
        """Return the latest revision of a flow; 0: there is no such flow."""
        entry = self._flows.known(flow_id)
        return 0 if entry is None else entry.revision

    def known(self, flow_id: str) -> FlowEntry | None:
        """Return an event's flow if it is in memory, else None."""
        return self._flows.known(flow_id)

    async def flow(self, flow_id: str) -> FlowEntry:
        """Return an event's flow.

        Raises:
            NotFoundError: there is no such flow (`FLOW_NOT_FOUND`).
            UnavailableError: storage can't serve.
        """
        entry = await self._flows.load(flow_id)
        if entry is None:
            raise NotFoundError(f"there is no flow {flow_id[: limits.MAX_FLOW_ID_LENGTH]}", reason="FLOW_NOT_FOUND")
        return entry

    async def revision(self, entry: FlowEntry, version: str) -> int:
        """Return the latest revision of a flow whose document has a certain version.

        Raises:
            NotFoundError: no revision has that version (`FLOW_VERSION_NOT_FOUND`).
            UnavailableError: storage can't serve.
        """
        revision = await self._flows.revision_of(entry, version)
        if revision is None:
            raise NotFoundError(
                f"{entry.id} has no version {version[:40]} among its last {limits.KEPT_REVISIONS} revisions",
                reason="FLOW_VERSION_NOT_FOUND",
            )
        return revision

    def admit(self, entry: FlowEntry, more: int, more_of_flow: int) -> None:
        """Check the limits for one event, on top of `more` (`more_of_flow` of this flow) that are being stored.

        Raises:
            ExhaustedError: the flow's backlog is full (`BACKLOG_FULL`), or its rate limit reached (`RATE_LIMITED`).
            UnavailableError: the backlog of all flows together is full (`TOTAL_BACKLOG_FULL`).
        """
        self.check_backlog(entry.id, entry.max_backlog, more, more_of_flow)
        self.check_rate(entry.bucket)

    def check_rate(self, bucket: TokenBucket | None) -> None:
        """Take a token for one event from a bucket, if there is one.

        Raises:
            ExhaustedError: the rate limit is reached (`RATE_LIMITED`).
        """
        wait = 0.0 if bucket is None else bucket.take(self._clock())
        if wait:
            raise ExhaustedError("the flow's rate limit is reached", reason="RATE_LIMITED", retry_after=math.ceil(wait))

    async def keys(self, entry: FlowEntry, event: envelope_pb2.Event) -> EventKeys:
        """Return the order key that an event carries, or else evaluate its flow's `order_by`; and its attributes.

        A key from an edge that used another revision of the flow is ignored: that edge has not received the latest yet.
        The body of an event that no edge has parsed is checked as well.

        Raises:
            InvalidError: the key is too long (`ORDER_KEY_INVALID`), or the body is invalid (see `check_body`).
            ExhaustedError: too many bodies of the flow wait to be parsed (`OVERLOADED`).
        """
        is_current = event.HasField("order_key") and event.flow_revision in (0, entry.revision)
        key: str | None = event.order_key if is_current else None
        if key and len(key.encode()) > limits.MAX_ORDER_KEY_BYTES:
            raise InvalidError(
                f"the order key has more than {limits.MAX_ORDER_KEY_BYTES} bytes", reason="ORDER_KEY_INVALID"
            )
        expressions = entry.keys if key is None or entry.keys.search else NO_KEYS
        if has_unparsed_body(event) and not entry.raw:
            made = await self._parser.check(convert.event_from_proto(event), expressions)
        elif expressions:
            made = await self._parser.keys(expressions, convert.event_from_proto(event))
        else:
            made = EventKeys()
        return made if key is None else made._replace(order_key=key)

    async def check_body(self, event: envelope_pb2.Event, *, raw: bool) -> None:
        """Check the body of an event that no edge has parsed, unless it is passed on `raw`.

        Raises:
            InvalidError: the body does not match its Content-Type (`BODY_INVALID`), is too large decompressed
                (`BODY_TOO_LARGE`), or takes too much time or memory to parse (`TOO_COSTLY`).
            ExhaustedError: too many bodies of the flow wait to be parsed (`OVERLOADED`).
        """
        if has_unparsed_body(event) and not raw:
            await self._parser.check(convert.event_from_proto(event), NO_KEYS)

    async def keys_of(self, entry: FlowEntry, event: Event) -> EventKeys:
        """Evaluate a flow's `order_by` and `search` for an event and return its keys.

        Raises:
            ExhaustedError: too many bodies of the flow wait to be parsed (`OVERLOADED`).
        """
        return await self._parser.keys(entry.keys, event) if entry.keys else EventKeys()

    async def keys_of_edited(self, entry: FlowEntry | None, event: Event, *, raw: bool) -> EventKeys:
        """Check an event whose body an operator wrote, as if a sender had sent it, and return its keys.

        Args:
            entry: the flow; None: it is deleted, and there are no keys.
            event: with its body.
            raw: whether the revision that will run takes bodies unparsed.

        Raises:
            InvalidError: see `check_body`; of an event that no request made, the body is not JSON (`BODY_INVALID`).
            ExhaustedError: too many bodies of the flow wait to be parsed (`OVERLOADED`).
        """
        if event.origin is not Origin.REQUEST:
            await self._parser.check_json(event.flow_id, event.body, "the input")
        elif not raw:
            await self._parser.check(event, NO_KEYS)
        return EventKeys() if entry is None else await self.keys_of(entry, event)

    async def check_output(self, flow_id: str, output: bytes) -> None:
        """Check that the output that an operator gives to a task is JSON.

        Raises:
            InvalidError: it is not (`BODY_INVALID`).
            ExhaustedError: too many bodies of the flow wait to be parsed (`OVERLOADED`).
        """
        await self._parser.check_json(flow_id, output, "the output")

    def check_backlog(self, flow_id: str, max_backlog: int, more: int = 0, more_of_flow: int = 0) -> None:
        """Check the backlog limits, without the rate limit, which applies to senders but not to operators who replay.

        Raises:
            ExhaustedError: the flow's backlog is full (`BACKLOG_FULL`).
            UnavailableError: the backlog of all flows together is full (`TOTAL_BACKLOG_FULL`).
        """
        core = self._host.core
        if core.unfinished + more >= self._total_backlog:
            raise UnavailableError(
                "the backlog of all flows together is full", reason="TOTAL_BACKLOG_FULL", retry_after=5
            )
        if core.backlog(flow_id) + more_of_flow >= max_backlog:
            raise ExhaustedError("the flow's backlog is full", reason="BACKLOG_FULL", retry_after=5)


def event_id_taken() -> InvalidError:
    """Return the error for an event whose ID is that of another flow's event: as its duplicate it would be lost."""
    return InvalidError("the event's ID belongs to an event of another flow", reason="EVENT_ID_TAKEN")


def take_attributes(message: envelope_pb2.Event) -> Attributes:
    """Remove the search attributes that an edge computed from an event, and return them: they are stored apart.

    Raises:
        InvalidError: no edge computes such attributes (`SEARCH_ATTRIBUTES_INVALID`).
    """
    attributes = tuple((each.name, each.value) for each in message.attributes)
    message.ClearField("attributes")
    names = {name for name, _ in attributes}
    if len(attributes) > MAX_ATTRIBUTES or len(names) < len(attributes):
        raise InvalidError(
            f"an event has at most {MAX_ATTRIBUTES} search attributes, each once", reason="SEARCH_ATTRIBUTES_INVALID"
        )
    if not all(0 < len(name) <= MAX_NAME and 0 < len(value) <= MAX_VALUE for name, value in attributes):
        raise InvalidError(
            f"search attributes have names of 1 to {MAX_NAME} and values of 1 to {MAX_VALUE} characters",
            reason="SEARCH_ATTRIBUTES_INVALID",
        )
    return attributes


def fill_defaults(message: envelope_pb2.Event, now_ms: int) -> None:
    """Fill in the fields that edges always set and services may omit: ID, time of receipt and method."""
    if not message.id:
        message.id = ids.mint(ids.slot_of(message.flow_id), now_ms=now_ms)
    if not message.HasField("receive_time"):
        message.receive_time.CopyFrom(convert.timestamp(now_ms))
    if not (message.method or message.head):
        message.method = "POST"


def has_unparsed_body(message: envelope_pb2.Event) -> bool:
    """Whether an event has a body that no edge has parsed; events from edges have a `head`."""
    if message.head or message.HasField("body_blob"):
        return False
    return bool(message.body) or message.method not in BODYLESS_METHODS


def validate_and_serialize(message: envelope_pb2.Event, rejection_id: str = "") -> bytes:
    """Validate an event and return it serialized, with the ID of the rejection after which it was accepted, if any.

    Raises:
        InvalidError: a field of it is invalid.
    """
    if ids.slot_of_event(message.id) != ids.slot_of(message.flow_id):
        raise InvalidError(
            "the event's ID was generated for another flow; leave it empty, and the router generates one",
            reason="EVENT_ID_INVALID",
        )
    if (
        message.origin
        or message.depth
        or message.rejection_id
        or message.parent_execution_id
        or message.HasField("replay")
    ):
        raise InvalidError(
            "`origin`, `depth`, `rejection_id`, `replay` and `parent_execution_id` must not be set: the"
            " router sets them",
            reason="ORIGIN_INVALID",
        )
    if rejection_id:
        message.rejection_id = rejection_id
    if message.callback_token and not message.callback:
        raise InvalidError("`callback_token` requires `callback`", reason="CALLBACK_NOT_NAMED")
    payload = message.SerializeToString()
    if len(message.body) > limits.MAX_BODY_BYTES:
        raise InvalidError(f"the body must have at most {limits.MAX_BODY_BYTES} bytes", reason="BODY_TOO_LARGE")
    envelope = len(payload) - len(message.body)
    if message.HasField("body_blob"):
        _check_blob(message)
        envelope -= min(envelope, limits.MAX_FORM_BYTES + limits.MAX_PARTS_BYTES)
    if envelope > MAX_ENVELOPE_BYTES:
        raise InvalidError(
            f"the event without its body must have at most {MAX_ENVELOPE_BYTES} serialized bytes",
            reason="EVENT_TOO_LARGE",
        )
    if message.dedupe_key and len(message.dedupe_key.encode()) > limits.MAX_DEDUPE_KEY_BYTES:
        raise InvalidError(
            f"the dedupe key has more than {limits.MAX_DEDUPE_KEY_BYTES} bytes", reason="DEDUPE_KEY_INVALID"
        )
    if not 0 <= message.receive_time.seconds <= MAX_SECONDS:
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


def _invalid(what: str) -> InvalidError:
    return InvalidError(what, reason="BODY_BLOB_INVALID")
