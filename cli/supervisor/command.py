"""The command line of a process of the cluster; separate from `child_process`, so that importing it is cheap."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Command:
    """A command to execute: its arguments, the whole environment, and a nice increment (see `priority`)."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    nice: int = 0


@dataclass(frozen=True, slots=True)
class ForeignProgram:
    """A program of the cluster that is not Flowhook's: it gets no settings from the supervisor, and reports nothing."""

    name: str  # role and number
    role: str  # its role
    command: Command  # the command that starts it
    is_ready: Callable[[], Awaitable[bool]]  # asks it whether it serves
    log_file: Path  # where it says what goes wrong
