"""Flows of the campaign: for each guarantee, and each kind of work, one that shows whether it holds.

Every call tells the service its `delivery`, which names the event that is behind it, also where another flow started
the execution.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

CALLS: Final = "chaos-calls"
"""Three calls one after another."""
SLOW: Final = "chaos-slow"
"""Three calls that take so long that a runner which lost its lease comes back while another one makes them."""
REPEATED: Final = "chaos-repeated"
"""Two calls, for deliveries that are not recognised when they are repeated: `dedupe` is off."""
ORDER: Final = "chaos-order"
"""Two calls for events that are ordered by a key."""
LIMIT: Final = "chaos-limit"
"""One call, in at most `CONCURRENCY` executions at a time."""
KEYED: Final = "chaos-keyed"
"""One call, in at most `KEY_CONCURRENCY` executions of a key at a time."""
WAIT: Final = "chaos-wait"
"""A wait, which outlives runners, between two calls."""
FORK: Final = "chaos-fork"
"""Two branches of two calls each, and a call after them."""
REPLY: Final = "chaos-reply"
"""The sender gets what the service answered, by its request or later by `Location`."""
ONE_TIME: Final = "chaos-one-time"
"""Waits for a callback at the one-time URL that it told the service."""
CORRELATED: Final = "chaos-correlated"
"""Waits for a callback that is found by `correlate`, and may arrive before it listens."""
PARENT: Final = "chaos-parent"
"""Runs `CHILD`, emits the event that starts `SUBSCRIBER`, and makes a call."""
CHILD: Final = "chaos-child"
SUBSCRIBER: Final = "chaos-subscriber"
LARGE: Final = "chaos-large"
"""Sends the service a body that is too large to be stored with its event."""
FAILING: Final = "chaos-failing"
"""Calls a service that fails: with 500, late, by cutting connections, and by being down for seconds."""

UNINTERRUPTED: Final = frozenset({CALLS, SLOW, REPEATED, ORDER, FORK})
"""Flows that do nothing between their calls."""
CONCURRENCY: Final = 3
KEY_CONCURRENCY: Final = 2
SLOW_SECONDS: Final = 1.5
HOLD_SECONDS: Final = 0.03
"""Seconds that a call takes."""

_BODY: Final = ".body"
_DEDUPE: Final = 'dedupe: {key: "${ .body.delivery }"}'
_TRIES: Final = "limit: {attempt: {count: 60}}"
_RETRY: Final = f"retry: {{delay: {{seconds: 2}}, {_TRIES}}}"
"""More than enough for a service that a busy machine, or this process, keeps waiting."""
_CALL: Final = re.compile(r"- @(\S+)")


@dataclass(frozen=True, slots=True)
class CampaignFlow:
    """A flow, and what is known of it.

    Attributes:
        name: its ID.
        after: its steps that call the service, each with the steps whose results are on disk before it begins.
        content: path of the delivery's content in the workflow's input.
        tasks: what it does, as YAML in which `@step` stands for a call; empty: its calls one after another.
        webhook: keys of its `webhook` beside `auth`; empty: it has none.
        execution: content of its `execution`.
        schedule: its `schedule`.
        rate: events of it that are sent, relative to the other flows; 0: other flows start it.
        branches: calls that one execution of it may have in progress at a time.
        unreliable: whether it calls the service that fails.
    """

    name: str
    after: Mapping[str, tuple[str, ...]]
    content: str = _BODY
    tasks: str = ""
    webhook: str = _DEDUPE
    execution: str = _RETRY
    schedule: str = ""
    rate: float = 1.0
    branches: int = 1
    unreliable: bool = False

    def document(self, urls: Mapping[bool, str]) -> bytes:
        """Return the flow file; `urls` are those of the service, and of the one that fails (true)."""
        written = self.tasks or "".join(f"  - @{step}\n" for step in self.after)
        tasks = _CALL.sub(lambda found: f"- {self._call(found[1], urls[self.unreliable])}", written)
        webhook = f"webhook:\n  auth: none\n  {self.webhook}\n" if self.webhook else ""
        head = f"document: {{dsl: 1.0.3, namespace: default, name: {self.name}, version: 1.0.0}}\n"
        execution = f"execution: {{{self.execution}}}\n"
        return f"{head}{webhook}{self.schedule}{execution}do:\n{tasks}".encode()

    def _call(self, step: str, url: str) -> str:
        content = f"$workflow.input{self.content}"
        fields = {each: f"'${{ {content}.{each} }}'" for each in ("delivery", "n", "key")}
        if self.name == LARGE:
            fields |= {each: f"'${{ {content}.{each} }}'" for each in ("text", "digest")}
        if step == "ask":
            fields["url"] = "'${ $runtime.metadata.callbacks.decision }'"
        body = ", ".join(f"{key}: {value}" for key, value in fields.items())
        output = ', output: {as: "${ {id: $workflow.input.id, token: .token} }"}' if step == "answer" else ""
        return f"{step}: {{call: http, with: {{method: post, endpoint: '{url}/{step}', body: {{{body}}}}}{output}}}"


def _in_order(*steps: str) -> dict[str, tuple[str, ...]]:
    return {step: steps[:number] for number, step in enumerate(steps)}


_LIST: Final = (
    CampaignFlow(CALLS, _in_order("first", "second", "third")),
    CampaignFlow(SLOW, _in_order("slow-1", "slow-2", "slow-3"), rate=0.7),
    CampaignFlow(REPEATED, _in_order("one", "two"), webhook="dedupe: {key: none}"),
    CampaignFlow(ORDER, _in_order("enter", "leave"), execution=f'order_by: "${{ .body.key }}", {_RETRY}'),
    CampaignFlow(LIMIT, _in_order("hold"), execution=f"concurrency: {CONCURRENCY}, {_RETRY}"),
    CampaignFlow(
        KEYED,
        _in_order("keep"),
        execution=f'concurrency: {{limit: {KEY_CONCURRENCY}, key: "${{ .body.key }}"}}, {_RETRY}',
    ),
    CampaignFlow(
        WAIT,
        _in_order("before", "after"),
        tasks="""\
  - @before
  - rest: {wait: {milliseconds: 300}}
  - @after
""",
    ),
    CampaignFlow(
        FORK,
        {
            "left-1": (),
            "left-2": ("left-1",),
            "right-1": (),
            "right-2": ("right-1",),
            "joined": ("left-1", "left-2", "right-1", "right-2"),
        },
        tasks="""\
  - both:
      fork:
        branches:
          - left:
              do:
                - @left-1
                - @left-2
          - right:
              do:
                - @right-1
                - @right-2
  - @joined
""",
        branches=2,
    ),
    CampaignFlow(
        REPLY,
        _in_order("answer"),
        webhook=f"{_DEDUPE}\n  respond: {{mode: reply, timeout: PT3S}}",
    ),
    CampaignFlow(
        ONE_TIME,
        _in_order("ask", "decided"),
        tasks="""\
  - @ask
  - decide: {listen: {to: {one: {with: {type: decision}}}}}
  - @decided
""",
        webhook=f"{_DEDUPE}\n  callbacks: {{decision: {{}}}}",
        rate=0.5,
    ),
    CampaignFlow(
        CORRELATED,
        _in_order("open", "closed"),
        tasks="""\
  - @open
  - decide:
      listen:
        to:
          one:
            with: {type: decision}
            correlate: {delivery: {from: "${ .data.body.delivery }", expect: "${ $workflow.input.body.delivery }"}}
  - @closed
""",
        webhook=f"{_DEDUPE}\n  callbacks: {{decision: {{auth: none, {_DEDUPE}}}}}",
        rate=0.5,
    ),
    CampaignFlow(
        PARENT,
        _in_order("finish"),
        tasks=f"""\
  - child: {{run: {{workflow: {{namespace: default, name: {CHILD}, input: "${{ $workflow.input.body }}"}}}}}}
  - tell: {{emit: {{event: {{with: {{type: chaos.told, data: "${{ $workflow.input.body }}"}}}}}}}}
  - @finish
""",
        rate=0.5,
    ),
    CampaignFlow(CHILD, _in_order("work"), content="", webhook="", rate=0),
    CampaignFlow(
        SUBSCRIBER,
        _in_order("heard"),
        content="[0]",
        webhook="",
        schedule="schedule: {on: {one: {with: {type: chaos.told}}}}\n",
        rate=0,
    ),
    CampaignFlow(LARGE, _in_order("content"), rate=0.04),
    CampaignFlow(
        FAILING,
        _in_order("unreliable"),
        execution=f"outage: {{failures: 3, probe: PT1S}}, retry: {{delay: {{milliseconds: 200}}, {_TRIES}}}",
        unreliable=True,
        rate=0.5,
    ),
)
FLOWS: Final[Mapping[str, CampaignFlow]] = {flow.name: flow for flow in _LIST}


def documents(urls: Mapping[bool, str]) -> list[bytes]:
    """Return the flow files; `urls` are those of the service, and of the one that fails (true)."""
    return [flow.document(urls) for flow in FLOWS.values()]


def steps(flow_id: str) -> tuple[str, ...]:
    """Return the steps of a flow that call the service."""
    return tuple(FLOWS[flow_id].after)


def hold_seconds(step: str) -> float:
    """Return how long the service takes for a step."""
    return SLOW_SECONDS if step.startswith("slow-") else HOLD_SECONDS
