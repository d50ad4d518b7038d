"""Quarantine: flows that once held up others have their expressions evaluated, and bodies read, in processes apart.

jq holds the interpreter's lock, so that while an expression runs nothing else in its process does. Once an expression
of a flow was killed, or took longer than it should, a second one must stop nobody: executions of that flow are driven
in threads, and each of their expressions is sent to one of a few processes, which may be killed without harm to
anybody. So are the events that start them: it takes as long to read a body as whoever sent it likes.

- `flows`: which flows are in quarantine, and until when.
- `process`: the process that evaluates; `frames`: how it is spoken to.
- `evaluators`: one such process, as a thread uses it, under the eyes of a `guard.watch.Watch`.
- `pool`: as many of them as there may be, of which no single flow gets all.
"""

from typing import Final

QUARANTINE_SECONDS: Final = 600.0
"""How long a flow stays in quarantine after an expression of it was killed."""

INPUT: Final = "/input"
"""JSON Pointer under which the body of an event is read."""
