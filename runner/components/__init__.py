"""Components: the functions that a `call` may name. One file per system, named for it.

A component is an async function under `@component`. Its arguments are one pydantic model, or typed keyword parameters;
the last parameter, `context`, provides the services of the runner::

    class Arguments(BaseModel):
        to: str
        text: str

    @component("pager.notify")
    async def notify(arguments: Arguments, context: Context) -> dict[str, str]:
        token = await context.secret("pager")
        response = await context.http.request("POST", "https://pager.example/notify", json={"text": arguments.text})
        ...

Packages register components in the entry-point group `flowhook.components`, under the name of the component.

Rules:
- A component returns JSON of at most 1 MiB, which is stored in the journal. Never return a credential.
- It may run more than once for one call (after a crash), with the same `context.idempotency_key`: pass the key on to
  the receiver. `context.http` sends it automatically.
- It must end by `context.deadline`, at which it is cancelled.
- It reports a failure with `raise fault(Kind.COMMUNICATION, "...")`. Any other exception is a defect: the flow sees a
  runtime error without internals, and the log has the details.
- It must not block the event loop, which other executions share.
"""

from runner.components.base import ClosableResource, Component, Context, component
from runner.interpreter.errors import Kind, TaskFault, fault

__all__ = ["ClosableResource", "Component", "Context", "Kind", "TaskFault", "component", "fault"]
