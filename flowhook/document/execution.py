"""`execution`: how Flowhook runs a flow. Not part of the DSL."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StrictInt

from flowhook import limits
from flowhook.document.model import Model


class ExecutionPolicy(Model):
    """How the executions of a flow are run."""

    concurrency: Annotated[StrictInt, Field(ge=1, le=100_000)] | None = None
    """Executions running at a time; None: as many as there are places."""
    order_by: str | None = None
    """Expression in `${ }`: events of one key run one after another. A path (see `expressions.paths`)."""
    retry: dict[str, Any] | None = None
    """The DSL's retry policy, for calls that fail transiently."""
    max_backlog: Annotated[StrictInt, Field(ge=1, le=10_000_000)] = limits.DEFAULT_FLOW_BACKLOG
    """Accepted events that have not ended; beyond it the sender gets 429."""
