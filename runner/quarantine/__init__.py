"""Quarantine: evaluates expressions and parses bodies of flows that blocked others, in separate processes.

jq holds the GIL, so nothing else in its process runs while an expression does. Once an expression of a flow was killed
or was slow, another must not block other flows. Executions of that flow are then driven in threads, and each of
their expressions is sent to one of a few processes, which can be killed without affecting other executions. The events
that start these executions are parsed there as well, since a sender can make parsing a body arbitrarily slow.

- `quarantined_flows`: the flows in quarantine, with the time at which they leave it.
- `evaluation`: what such a process (`flowhook.sandbox`) does.
- `isolated_evaluator`: one such process, used from a thread and supervised by a `guard.watchdog.Watchdog`; and a
  bounded pool of them, of which no single flow gets all.
"""

from typing import Final

INPUT: Final = "/input"  # JSON Pointer that the record and errors show while the body of an event is parsed
