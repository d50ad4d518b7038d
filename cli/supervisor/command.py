"""What a process of the cluster is started with; apart from `child`, so that to name a command imports little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute: arguments, the whole environment, and how far others go first (see `priority.lower`)."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    nice: int = 0
