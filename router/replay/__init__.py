"""Replays: what a new execution takes over from one that ended. Pure, but for the service that starts them.

- `journal_keys`: the tasks that entries of a journal belong to.
- `task_runs`: the runs of tasks in a task history, and where they lie in the journal.
- `from_failed_task`, `from_task`: the journal that a replay takes over, by where it begins.
- `plan`: what a replay is made of, by its options; its preview; the event of one whose input was edited.
- `preview`: which tasks are taken over, and which run again.

Invariants: an original is never changed; what is taken over of a journal is a prefix of it, but for held results.
"""
