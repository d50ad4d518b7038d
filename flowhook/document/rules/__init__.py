"""What a document has to meet beyond its shape: names that refer to something, expressions that compile.

- `workflow`: the document as a whole; what is called from outside.
- `tasks`: lists of tasks, data flow, and the kinds of tasks that have no module of their own.
- `calls`, `events`, `processes`, `timing`: calls and how they authenticate; events that are awaited and emitted; what
  is run; durations, timeouts and retry policies.
- `raw_bodies`: expressions about bodies that nobody parses.
- `context`: what a document defines by name, and the check of expressions; handed to all of the above.
- `tree`: how the plain tree is read.

The rules walk the plain tree, not the models, so that they find what there is to find in a document whose shape is
wrong elsewhere; what is of the wrong type they pass over, for `shape` tells of it.
"""

from flowhook.document.rules.workflow import check_rules

__all__ = ["check_rules"]
