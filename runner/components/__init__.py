"""Components: the functions that a `call` may name. One file per system, named for it.

A component is an async function under `@component`; packages register theirs in the entry-point group
`flowhook.components`. docs/components.md says what is promised to a component, and what it has to keep to. Any
exception but a `TaskFault` is a defect: the flow sees a runtime error without internals, and the log has the details.
"""

from runner.components.base import ClosableResource, Component, Context, component
from runner.interpreter.errors import Kind, TaskFault, fault

__all__ = ["ClosableResource", "Component", "Context", "Kind", "TaskFault", "component", "fault"]
