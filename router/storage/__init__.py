"""Durable state: one SQLite file, which a replicated log may keep equal on several routers.

- `storage`: opening and closing. `model`: the values that the router and its storage exchange; `limits`.
- `event_log`, `shard_state`, `registry`, `jobs`, `bodies`, `rejections`, `audit`: the parts of an open storage, with
  their kinds of writes; `part`: what makes their methods. `changes`, `expiry`, `erasure`: writes of the owner.
- `queries`, `execution_list`, `activity`: what is read, on the threads of `readers`.
- `schema`: tables, and the format's version. `statements`: statements over many rows. `rows`: conversion of rows.
- `writer`: the writer thread and its group commit; `checkpoints` and `vacuum` beside it.
- `blobs`: large payloads as files, or in an object store.
- `errors`: no error of SQLite or the operating system leaves this package untranslated.
- `commit_log`: the replicated log, which knows nothing of this. `replicated`: views, which follow it.

Invariants: WAL, with synchronous=FULL unless a replicated log is the durable copy; a call returns only after its
transaction is committed; only the writer thread writes transactions; nothing blocks the event loop; no other package
imports apsw. Payloads (events, replies) are opaque bytes: storage does not depend on protobuf.
"""
