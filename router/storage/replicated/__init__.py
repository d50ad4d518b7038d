"""SQLite under a replicated log: the owner appends what it commits, and followers apply it to views of their own.

- `batch`: the records of the log. `recorder`: appends each transaction of the owner before it commits.
- `view`: the database file of a router, which may be thrown away. `follower`: applies records to it.
- `snapshots`: copies of views in the object store, which let the log be purged.

Invariants: nothing is acknowledged before a quorum has its record; a view holds exactly the records up to the position
in its table `applied`, which changes in the same transaction; what a follower can't apply is never skipped.
"""
