"""Limits that more than one module uses, with their units. Nothing grows without bound."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

MAX_BODY_BYTES: Final = 16 * MIB
"""Largest body that is held in memory, compressed or not, and that is sent inside its event."""

MAX_STREAMED_BODY_BYTES: Final = 1 * GIB
"""Largest body a flow may allow (`webhook.max_body`); one above `MAX_BODY_BYTES` is streamed to storage."""

STREAMED_BODY_BYTES: Final = 1 * MIB
"""Bodies above this are streamed, unless they are parsed as a whole."""

CHUNK_BYTES: Final = 256 * KIB
"""Chunk size of streamed bodies."""

MAX_FORM_BYTES: Final = 1 * MIB
"""JSON of the form fields of a streamed body; further fields become attachments."""

MAX_VALUES: Final = 1_000_000
"""JSON values in one body, including arrays and objects: about 200 ms of parsing, and up to 250 MiB of memory."""

MAX_PARTS: Final = 1000
"""Parts of a multipart body."""

MAX_PARTS_BYTES: Final = 1 * MIB
"""Serialized metadata of the parts of a streamed body: their names, types and hashes."""

MAX_UPLOADS: Final = 64
"""Concurrent uploads to one router by senders that are authenticated before the body, and as many by others."""

MAX_FLOW_UPLOADS: Final = 16
"""Concurrent uploads to one flow by senders that are authenticated before the body, and as many by others."""

MAX_SENDER_UPLOADS: Final = 4
"""Concurrent uploads by one address whose sender is not authenticated before the body."""

MAX_UPLOAD_BYTES: Final = 8 * GIB
"""Total size of the bodies that are being uploaded, or are uploaded and not yet referenced by an event."""

UPLOAD_SECONDS: Final = 3600.0
"""Retention of an uploaded body that no event references."""

DEFAULT_BODY_BYTES: Final = 10 * MIB
"""Default of `webhook.max_body`."""

MAX_CALLBACK_BODY_BYTES: Final = 1 * MIB
"""Largest request body a callback may allow: it becomes part of the execution's journal."""

DEFAULT_CALLBACK_BODY_BYTES: Final = 512 * KIB
"""Default of a callback's `max_body`."""

MAX_BATCH_EVENTS: Final = 512
"""Events in one IngestEvents call."""

MAX_BATCH_BYTES: Final = 24 * MIB
"""Serialized events in one IngestEvents call; a batch of one may hold the largest body with its headers."""

MAX_MESSAGE_BYTES: Final = 32 * MIB
"""Largest gRPC message, in both directions, on every channel and server."""

INLINE_BODY_BYTES: Final = 1 * MIB
"""Bodies above this are stored as blobs beside the database, never in it."""

REPLICATED_INLINE_BODY_BYTES: Final = 256 * KIB
"""The same under a replicated log, whose records are small: the blobs are in its object store."""

MAX_HEADER_BYTES: Final = 64 * KIB
"""Start line and header fields of one HTTP request."""

MAX_DOCUMENT_BYTES: Final = 256 * KIB
"""One flow file."""

KEPT_REVISIONS: Final = 100
"""Latest revisions of a flow that are always retained. Earlier ones are deleted with their last execution."""

MAX_FLOW_ID_LENGTH: Final = 127
MAX_FOUND_FLOWS: Final = 256
"""Flow IDs in one FindFlows call."""

MAX_SECRET_NAME_LENGTH: Final = 127
MAX_SECRET_BYTES: Final = 64 * KIB
MAX_SECRETS: Final = 10_000
MAX_DEDUPE_KEY_BYTES: Final = 256
MAX_ORDER_KEY_BYTES: Final = 256

MAX_RESULT_BYTES: Final = 1 * MIB
"""JSON of one task's output, and of a workflow's output."""

MAX_JOURNAL_ENTRIES: Final = 1000
"""Effects one execution may journal between two compactions."""

MAX_JOURNAL_BYTES: Final = 8 * MIB
"""Keys and results of one execution's journal in total; every new attempt receives the whole journal."""

MAX_ERROR_DETAIL_BYTES: Final = 4 * KIB
MAX_ERROR_BODY_BYTES: Final = 4 * KIB
MAX_HISTORY_BYTES: Final = 8 * KIB
"""Task history in one journal entry, or in the report of the end of an attempt."""
MAX_HISTORIES: Final = 200
"""Compacted journal entries whose task history is retained."""
MAX_LINKED_EMITTERS: Final = 1000
"""Executions that are stored as those whose events one execution received."""

MAX_READ_HISTORY_BYTES: Final = 2 * MIB
"""Task history of one execution that is read for display: half of it from the start, half from the end."""

DEFAULT_FLOW_BACKLOG: Final = 1_000_000
"""Default of `execution.max_backlog`: accepted events of a flow whose executions have not ended."""

DEFAULT_TOTAL_BACKLOG: Final = 4_000_000
"""Accepted events of all flows whose executions have not ended; beyond it the router answers 503."""

MAX_ATTEMPTS: Final = 5
"""Attempts charged to an execution for killing its runner or losing its lease, before it is `faulted`."""

MAX_WORKFLOW_DEPTH: Final = 16
"""Nesting depth of `run` tasks and of events that start flows: it ends an endless loop of flows."""

MAX_SUBSCRIPTIONS: Final = 1000
"""Subscriptions that one execution may wait for at a time; timers do not count."""

MAX_SUBSCRIPTION_BYTES: Final = 1 * MIB
"""Total size of the keys and filters of the subscriptions of one execution."""

MAX_EVENT_FILTERS: Final = 100
"""Filters of one `listen` or `schedule.on`, and of its `until`."""

MAX_BUFFERED_EVENTS: Final = 10_000
"""Events of one flow that are buffered for executions that may listen for them later."""

MAX_TOTAL_BUFFERED_EVENTS: Final = 1_000_000
"""Events of all flows that are buffered in this way."""

MAX_RECEIVERS: Final = 1000
"""Executions of one flow that one event is delivered to."""

CALLBACK_TOKEN_SECONDS: Final = 30 * 24 * 3600.0
"""Validity of an execution's one-time URLs, from its receive time; they expire earlier if it ends."""

MAX_CALLBACKS: Final = 100
"""Callbacks of one flow."""

LEASE_SECONDS: Final = 6.0
"""Lease of an assignment; a runner renews it after a third of that, so a dead runner is detected well within 10 s."""

WATCH_PROGRESS_SECONDS: Final = 1.0
"""Longest interval between two messages of a healthy watch stream."""

WATCH_SILENCE_SECONDS: Final = 5.0
"""After this much silence of its watch stream, an edge no longer uses the flows and secrets in its caches."""

EXPRESSION_SECONDS: Final = 2.0
EXPRESSION_BYTES: Final = 256 * MIB
"""Default limits of one expression; beyond them its execution faults and the evaluating process is replaced."""
