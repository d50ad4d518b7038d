"""Model of `execution.outage`: when executions wait because what they are about to call is down."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, StrictInt, Tag

from flowhook.document.models.base import Model
from flowhook.document.models.credentials import Duration

MAX_PROBE_SECONDS: Final = 300.0


class OutagePolicy(Model):
    """When executions park before they call a destination, because their calls to it fail."""

    failures: Annotated[StrictInt, Field(ge=1, le=1000)] = 5
    """Calls to one destination that fail in a row; any flow's own calls count for it alone."""
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Share of the last 100 calls to one destination that fail, even if some between them do not."""
    probe: Annotated[Duration, Field(ge=1, le=MAX_PROBE_SECONDS)] = 10.0
    """Seconds until one execution tries again; doubled whenever it fails, to at most a minute."""


Outage = Annotated[
    Annotated[OutagePolicy, Tag("<policy>")] | Annotated[Literal["none"], Tag("<off>")],
    Discriminator(lambda value: "<off>" if isinstance(value, str) else "<policy>"),
]
"""When executions park before a destination that is down; `none`: never."""
