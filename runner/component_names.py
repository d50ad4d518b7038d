"""Which names a `call` may use here, without importing what they name, which takes longer than to check a flow."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Final

ENTRY_POINT_GROUP: Final = "flowhook.components"

BUILT_IN: Final = frozenset({"grpc", "http", "openapi", "reply"})
"""Those that the interpreter knows of: no package can take their place."""

TASKS: Final = frozenset({"run.script", "run.shell"})
"""Those that are behind tasks of other kinds: no `call` may name them."""


def component_names() -> frozenset[str]:
    """Return the built-in names and those of installed packages."""
    return (BUILT_IN | {entry_point.name for entry_point in entry_points(group=ENTRY_POINT_GROUP)}) - TASKS
