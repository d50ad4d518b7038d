"""Limits that more than one module uses, with their units. Nothing grows without bound."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# largest body that is held in memory, compressed or not, and that is sent inside its event
MAX_BODY_BYTES: Final = 16 * MIB
# largest body a flow may allow (`webhook.max_body`); one above `MAX_BODY_BYTES` is streamed to storage
MAX_STREAMED_BODY_BYTES: Final = 1 * GIB
STREAMED_BODY_BYTES: Final = 1 * MIB  # bodies above this are streamed, unless they are parsed as a whole
CHUNK_BYTES: Final = 256 * KIB  # chunk size of streamed bodies
MAX_FORM_BYTES: Final = 1 * MIB  # JSON of the form fields of a streamed body; further fields become attachments
# JSON values in one body, including arrays and objects: about 200 ms of parsing, and up to 250 MiB of memory
MAX_VALUES: Final = 1_000_000
MAX_PARTS: Final = 1000  # parts of a multipart body
MAX_PARTS_BYTES: Final = 1 * MIB  # serialized metadata of the parts of a streamed body: their names, types and hashes

# concurrent uploads to one router by senders that are authenticated before the body, and as many by others
MAX_UPLOADS: Final = 64
# concurrent uploads to one flow by senders that are authenticated before the body, and as many by others
MAX_FLOW_UPLOADS: Final = 16
MAX_SENDER_UPLOADS: Final = 4  # concurrent uploads by one address whose sender is not authenticated before the body
# total size of the bodies that are being uploaded, or are uploaded and not yet referenced by an event
MAX_UPLOAD_BYTES: Final = 8 * GIB
UPLOAD_SECONDS: Final = 3600.0  # retention of an uploaded body that no event references
DEFAULT_BODY_BYTES: Final = 10 * MIB  # default of `webhook.max_body`

# largest request body a callback may allow: it becomes part of the execution's journal
MAX_CALLBACK_BODY_BYTES: Final = 1 * MIB
DEFAULT_CALLBACK_BODY_BYTES: Final = 512 * KIB  # default of a callback's `max_body`

MAX_BATCH_EVENTS: Final = 512  # events in one IngestEvents call
# serialized events in one IngestEvents call; a batch of one may hold the largest body with its headers
MAX_BATCH_BYTES: Final = 24 * MIB
MAX_MESSAGE_BYTES: Final = 32 * MIB  # largest gRPC message, in both directions, on every channel and server

INLINE_BODY_BYTES: Final = 1 * MIB  # bodies above this are stored as blobs beside the database, never in it
# the same under a replicated log, whose records are small: the blobs are in its object store
REPLICATED_INLINE_BODY_BYTES: Final = 256 * KIB

MAX_HEADER_BYTES: Final = 64 * KIB  # start line and header fields of one HTTP request
MAX_DOCUMENT_BYTES: Final = 256 * KIB  # one flow file

# latest revisions of a flow that are always retained. Earlier ones are deleted with their last execution
KEPT_REVISIONS: Final = 100
MAX_PATH_LENGTH: Final = 2048  # of a request to a URL of a flow's own
MAX_FLOW_ID_LENGTH: Final = 127
MAX_FOUND_FLOWS: Final = 256  # flow IDs in one FindFlows call

MAX_SECRET_NAME_LENGTH: Final = 127
MAX_SECRET_BYTES: Final = 64 * KIB
MAX_SECRETS: Final = 10_000
MAX_DEDUPE_KEY_BYTES: Final = 256
MAX_ORDER_KEY_BYTES: Final = 256
MAX_SEARCH_ATTRIBUTES: Final = 8  # of a flow

# events of one batch or one debounced group, and bytes of the serialized events of a batch: they fit into an assignment
MAX_BATCH_SIZE: Final = 1000
MAX_BATCHED_BYTES: Final = MAX_BODY_BYTES
MAX_RESULT_BYTES: Final = 1 * MIB  # JSON of one task's output, and of a workflow's output
MAX_JOURNAL_ENTRIES: Final = 1000  # effects one execution may journal between two compactions
# keys and results of one execution's journal in total; every new attempt receives the whole journal
MAX_JOURNAL_BYTES: Final = 8 * MIB
MAX_ERROR_DETAIL_BYTES: Final = 4 * KIB
MAX_ERROR_BODY_BYTES: Final = 4 * KIB
MAX_HISTORY_BYTES: Final = 8 * KIB  # task history in one journal entry, or in the report of the end of an attempt
MAX_HISTORIES: Final = 200  # compacted journal entries whose task history is retained
MAX_LINKED_EMITTERS: Final = 1000  # executions that are stored as those whose events one execution received
# task history of one execution that is read for display: half of it from the start, half from the end
MAX_READ_HISTORY_BYTES: Final = 2 * MIB

# default of `execution.max_backlog`: accepted events of a flow whose executions have not ended
DEFAULT_FLOW_BACKLOG: Final = 1_000_000
# accepted events of all flows whose executions have not ended; beyond it the router answers 503
DEFAULT_TOTAL_BACKLOG: Final = 4_000_000
# keys of a flow whose rate was used within its time, or for which executions wait
MAX_RATE_KEYS: Final = 100_000
# those of all flows; once there are so many, a flow may have an equal share
MAX_ALL_RATE_KEYS: Final = 1_000_000
# attempts charged to an execution for killing its runner or losing its lease, before it is `faulted`
MAX_ATTEMPTS: Final = 5
# nesting depth of `run` tasks and of events that start flows: it ends an endless loop of flows
MAX_WORKFLOW_DEPTH: Final = 16

MAX_SUBSCRIPTIONS: Final = 1000  # subscriptions that one execution may wait for at a time; timers do not count
MAX_SUBSCRIPTION_BYTES: Final = 1 * MIB  # total size of the keys and filters of the subscriptions of one execution
MAX_EVENT_FILTERS: Final = 100  # filters of one `listen` or `schedule.on`, and of its `until`
# events of one flow that are buffered for executions that may listen for them later
MAX_BUFFERED_EVENTS: Final = 10_000
MAX_TOTAL_BUFFERED_EVENTS: Final = 1_000_000  # events of all flows that are buffered in this way
MAX_RECEIVERS: Final = 1000  # executions of one flow that one event is delivered to

# validity of an execution's one-time URLs, from its receive time; they expire earlier if it ends
CALLBACK_TOKEN_SECONDS: Final = 30 * 24 * 3600.0
MAX_CALLBACKS: Final = 100  # callbacks of one flow

# lease of an assignment; a runner renews it after a third of that, so a dead runner is detected well within 10 s
LEASE_SECONDS: Final = 6.0
WATCH_PROGRESS_SECONDS: Final = 2.0  # longest interval between two messages of a healthy watch stream
# after this much silence of its watch stream, an edge no longer uses the flows and secrets in its caches
WATCH_SILENCE_SECONDS: Final = 5.0

EXPRESSION_SECONDS: Final = 2.0
# default limits of one expression; beyond them its execution faults and the evaluating process is replaced
EXPRESSION_BYTES: Final = 256 * MIB
