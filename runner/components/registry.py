"""Registry of components: the built-in ones and those of installed packages."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Final

from flowhook.process import logs
from runner.component_names import ENTRY_POINT_GROUP
from runner.components import http, reply, run_process
from runner.components.asyncapi.call import call as asyncapi_call
from runner.components.asyncapi.call import subscribe as asyncapi_subscribe
from runner.components.base import Component
from runner.components.grpc_call.call import call as grpc_call
from runner.components.mcp_call.call import call as mcp_call
from runner.components.openapi.call import call as openapi_call

# the components named by `component_names.BUILT_IN`
BUILT_IN: Final = (asyncapi_call, grpc_call, http.call, mcp_call, openapi_call, reply.reply)
# the components named by `component_names.TASKS`
TASKS: Final = (asyncapi_subscribe, run_process.script, run_process.shell)

log = logs.get_logger(__name__)


@functools.cache
def components() -> Mapping[str, Component]:
    """Return all components by name. A failed import is logged, and the component left out. Blocking: imports."""
    found: dict[str, Component] = {each.name: each for each in (*BUILT_IN, *TASKS)}
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        loaded, cause = None, "not made with @component"
        try:
            loaded = entry_point.load()
        except Exception as error:  # noqa: BLE001 - somebody else's code; whatever it raises, the others must work
            cause = f"{type(error).__name__}: {error}"
        if isinstance(loaded, Component):
            found.setdefault(entry_point.name, loaded)
        else:
            log.error("component not loaded", component=entry_point.name, cause=cause)
    return found


def callable_components() -> Mapping[str, Component]:
    """Return the components that a `call` may name. Blocking, like `components`."""
    return {name: found for name, found in components().items() if found not in TASKS}
