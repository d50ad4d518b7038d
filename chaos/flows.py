"""Flows of the campaign, each for one of the guarantees."""

from __future__ import annotations

from typing import Final

CALLS: Final = "chaos-calls"
"""Three calls one after another: what was journaled is not done again."""

ORDER: Final = "chaos-order"
"""Two calls for events that are ordered by a key."""

LIMIT: Final = "chaos-limit"
"""One call, in at most `CONCURRENCY` executions at a time."""

WAIT: Final = "chaos-wait"
"""A wait, which outlives runners, and a call after it."""

FLOWS: Final = (CALLS, ORDER, LIMIT, WAIT)
CONCURRENCY: Final = 3
KEYS: Final = 4
"""Order keys that events have."""

_DOCUMENT: Final = """\
document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}
webhook:
  auth: none
  dedupe: {{key: "${{ .body.delivery }}"}}
{execution}do:
{tasks}
"""
_CALL: Final = (
    "  - {step}: {{call: http, with: {{method: post, endpoint: '{url}/{step}',"
    " body: {{n: '${{ $workflow.input.body.n }}', key: '${{ $workflow.input.body.key }}'}}}}}}"
)
_TASKS: Final = {CALLS: ("first", "second", "third"), ORDER: ("begin", "end"), LIMIT: ("hold",), WAIT: ("after",)}
_EXECUTION: Final = {
    ORDER: 'execution: {order_by: "${ .body.key }"}\n',
    LIMIT: f"execution: {{concurrency: {CONCURRENCY}}}\n",
}


def documents(url: str) -> list[bytes]:
    """Return the flow files; `url` is that of the called service."""
    return [_document(name, url).encode() for name in FLOWS]


def steps(flow_id: str) -> tuple[str, ...]:
    """Return the steps of a flow that call the service, in order."""
    return _TASKS[flow_id]


def _document(name: str, url: str) -> str:
    tasks = [_CALL.format(step=step, url=url) for step in _TASKS[name]]
    if name == WAIT:
        tasks.insert(0, "  - rest: {wait: {milliseconds: 300}}")
    return _DOCUMENT.format(name=name, execution=_EXECUTION.get(name, ""), tasks="\n".join(tasks))
