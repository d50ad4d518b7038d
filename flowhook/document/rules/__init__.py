"""Checks of a document beyond its shape: names that refer to something, expressions that compile.

- `workflow`: the document as a whole; the entry point.
- `tasks`: lists of tasks, data flow, and the kinds of tasks that have no module of their own.
- `items`: the form of the items in lists of tasks and of cases.
- `calls`, `events`, `timing`: calls, their authentication, and processes; events that are awaited and emitted;
  durations, timeouts and retry policies.
- `raw_bodies`: expressions over bodies that are not parsed.
- `context`: the names that a document defines, and the check of expressions; passed to all of the above.
- `tree`: helpers for reading the plain tree.

The rules walk the plain tree, not the models, so that they work on a document whose shape is wrong elsewhere. They skip
values of the wrong type, which `shape_errors` reports.
"""

from flowhook.document.rules.workflow import check_rules

__all__ = ["check_rules"]
