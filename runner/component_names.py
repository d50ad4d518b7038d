"""Lists the component names that a `call` may use, without importing the components.

Importing them takes longer than checking a flow.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Final

ENTRY_POINT_GROUP: Final = "flowhook.components"
# names that the interpreter handles specially: no package can replace them
BUILT_IN: Final = frozenset({"asyncapi", "grpc", "http", "mcp", "openapi", "reply"})
# components behind tasks of other kinds, and subscriptions: no `call` may name them
TASKS: Final = frozenset({"asyncapi.subscribe", "run.script", "run.shell"})


def component_names() -> frozenset[str]:
    return (BUILT_IN | {entry_point.name for entry_point in entry_points(group=ENTRY_POINT_GROUP)}) - TASKS
