"""Components: the functions that a `call` may name. One file per system, named for it.

A component is an async function under `@component`. Its arguments are one pydantic model, or typed keyword parameters;
`context`, last, is what the runner offers::

    class Arguments(BaseModel):
        to: str
        text: str

    @component("pager.notify")
    async def notify(arguments: Arguments, context: Context) -> dict[str, str]:
        token = await context.secret("pager")
        response = await context.http.request("POST", "https://pager.example/notify", json={"text": arguments.text})
        ...

Packages offer theirs by the entry-point group `flowhook.components`; the name of the entry point is the component's.

Rules:
- What it returns is JSON, at most 1 MiB, and goes into the journal. Never return a credential.
- It may run more than once for one call (a crash in between), with the same `context.idempotency_key`: hand that to
  the receiver. `context.http` sends it by itself.
- It ends by `context.deadline`; it is cancelled then.
- It says what went wrong with `raise fault(Kind.COMMUNICATION, "...")`. Anything else it raises is a defect: the flow
  sees a runtime error without internals, the log has the rest.
- It never blocks the event loop: other executions share it.
"""

from runner.components.base import Component, Context, component
from runner.components.shared import Kept
from runner.interpreter.errors import Kind, TaskFault, fault

__all__ = ["Component", "Context", "Kept", "Kind", "TaskFault", "component", "fault"]
