"""The command line of a process of the cluster; separate from `child_process`, so that importing it is cheap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """A command to execute: its arguments, the whole environment, and a nice increment (see `priority`)."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    nice: int = 0
