"""Replays: what a new execution takes over from one that ended. Pure, but for the service that starts them.

- `journal_keys`: the tasks that entries of a journal belong to, and where the runs of tasks lie in it.
- `resumption`: the journal that a replay takes over, by where it begins.
- `plan`: what a replay is made of, by its options; which tasks are taken over, and which run again; the event of one
  whose input was edited.

Invariants: an original is never changed; what is taken over of a journal is a prefix of it, but for held results.
"""
