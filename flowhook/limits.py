"""Every limit that more than one module needs, with its unit. Nothing grows without bound (DESIGN, guarantee 8)."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

MAX_BODY_BYTES: Final = 16 * MIB
"""Largest body that is held in memory, as it is or decompressed, and travels in its event."""

MAX_STREAMED_BODY_BYTES: Final = 1 * GIB
"""Largest body a flow may allow (`webhook.max_body`); one above `MAX_BODY_BYTES` is streamed to storage."""

STREAMED_BODY_BYTES: Final = 1 * MIB
"""Bodies above this are streamed, when nobody parses them in one piece."""

CHUNK_BYTES: Final = 256 * KIB
"""How much of a streamed body is handed on at a time."""

MAX_FORM_BYTES: Final = 1 * MIB
"""Fields of the form in a streamed body, as JSON; further ones are attachments."""

MAX_VALUES: Final = 1_000_000
"""Values of the JSON of one body, arrays and objects among them: some 200 ms to read, and up to 250 MiB of memory."""

MAX_PARTS: Final = 1000
"""Parts of a multipart body."""

MAX_PARTS_BYTES: Final = 1 * MIB
"""What is told of the parts of a streamed body, serialized: their names, types and hashes."""

MAX_UPLOADS: Final = 64
"""Bodies that are uploaded at a time, to one router: by proven senders, and as many by others."""

MAX_FLOW_UPLOADS: Final = 16
"""Bodies that are uploaded to one flow at a time: by proven senders, and as many by others."""

MAX_SENDER_UPLOADS: Final = 4
"""Bodies that one address uploads at a time which has not proved whose it is."""

MAX_UPLOAD_BYTES: Final = 8 * GIB
"""Bodies that are uploaded, or were and are yet to be named by an event, in all."""

UPLOAD_SECONDS: Final = 3600.0
"""How long a body is kept that no event names."""

DEFAULT_BODY_BYTES: Final = 10 * MIB
"""`webhook.max_body` of a flow that does not say."""

MAX_CALLBACK_BODY_BYTES: Final = 1 * MIB
"""Largest request body a callback may allow: what comes in goes into the execution's journal."""

DEFAULT_CALLBACK_BODY_BYTES: Final = 512 * KIB
"""`max_body` of a callback that does not say."""

MAX_BATCH_EVENTS: Final = 512
"""Events in one IngestEvents call."""

MAX_BATCH_BYTES: Final = 24 * MIB
"""Serialized events in one IngestEvents call; a batch of one may hold the largest body with its headers."""

MAX_MESSAGE_BYTES: Final = 32 * MIB
"""Largest gRPC message, in both directions, on every channel and server."""

INLINE_BODY_BYTES: Final = 1 * MIB
"""Bodies above this are stored as blobs beside the database, never in it."""

MAX_HEADER_BYTES: Final = 64 * KIB
"""Start line and header fields of one HTTP request."""

MAX_DOCUMENT_BYTES: Final = 256 * KIB
"""One flow file."""

KEPT_REVISIONS: Final = 100
"""Revisions of a flow that stay, however old. Earlier ones go with the last execution of them."""

MAX_FLOW_ID_LENGTH: Final = 127
MAX_FOUND_FLOWS: Final = 256
"""IDs that one FindFlows call asks for."""

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
"""Keys and results of one execution's journal in all; it travels whole with every new attempt."""

MAX_ERROR_DETAIL_BYTES: Final = 4 * KIB
MAX_ERROR_BODY_BYTES: Final = 4 * KIB
MAX_HISTORY_BYTES: Final = 8 * KIB
"""What is told of tasks with one journal entry, or with the end of an attempt."""
MAX_HISTORIES: Final = 200
"""Journal entries that were compacted whose history is kept."""

MAX_READ_HISTORY_BYTES: Final = 2 * MIB
"""What is read of what was told of the tasks of one execution, to show them: half of it the first, half the last."""

DEFAULT_FLOW_BACKLOG: Final = 1_000_000
"""`execution.max_backlog` of a flow that does not say: accepted events that have not ended."""

DEFAULT_TOTAL_BACKLOG: Final = 4_000_000
"""Accepted events of all flows that have not ended; beyond it the router answers 503."""

MAX_ATTEMPTS: Final = 5
"""Attempts charged to an execution before it is `faulted` for killing its runner or losing its lease."""

MAX_WORKFLOW_DEPTH: Final = 16
"""`run` tasks, and events that start flows, that may lie within one another: a loop of flows ends there."""

MAX_SUBSCRIPTIONS: Final = 1000
"""Things that one execution may wait for at a time, beside times."""

MAX_SUBSCRIPTION_BYTES: Final = 1 * MIB
"""Keys and filters of all that one execution waits for at a time."""

MAX_EVENT_FILTERS: Final = 100
"""Filters of one `listen` or `schedule.on`, and of the `until` in one."""

MAX_ARRIVALS: Final = 10_000
"""Events of one flow that are kept for executions that may listen for them."""

MAX_TOTAL_ARRIVALS: Final = 1_000_000
"""Events of all flows that are kept so."""

MAX_RECEIVERS: Final = 1000
"""Executions of one flow that one event goes to."""

CALLBACK_TOKEN_SECONDS: Final = 30 * 24 * 3600.0
"""How long after an execution was received its one-time URLs are good, if it has not ended before."""

MAX_CALLBACKS: Final = 100
"""Callbacks of one flow."""

LEASE_SECONDS: Final = 6.0
"""Lease of an assignment; a runner renews at a third of it, so that a dead one is noticed well within 10 s."""

WATCH_PROGRESS_SECONDS: Final = 1.0
"""A watch that is alive says so at least this often."""

WATCH_SILENCE_SECONDS: Final = 5.0
"""After this much silence what an edge caches of flows and secrets is no longer used."""

EXPRESSION_SECONDS: Final = 2.0
EXPRESSION_BYTES: Final = 256 * MIB
"""Default limits of one expression: beyond them its execution faults and its process is replaced."""
