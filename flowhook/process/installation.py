"""Detects that the files of the installation were replaced while the process runs, by an upgrade for example.

Code that a process imports only now and then, because few need it, is imported once the process is ready: what is on
the disk later may be another version, or nothing. Runners fork their workers from a process that has all code, too.
Other processes that are started later (`offload`, `quarantine`) import what is on the disk then: whatever is needed and
does not start gets `INSTALLATION_REPLACED`. So each process watches its installation, and says that it is to be
restarted.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import flowhook
from flowhook.process import logs
from flowhook.process.process_state import ProcessState
from flowhook.process.ticks import next_tick

LOOK_SECONDS: Final = 10.0  # between two looks at the files
WARNING: Final = "installation"  # kind of the warning of a process
# files of Flowhook, of what it depends on, and of Python, of which an upgrade replaces one at the least
FILES: Final = tuple(
    Path(file)
    for file in (flowhook.__file__, logs.__file__, getattr(find_spec("grpc"), "origin", None), sys.executable)
    if file
)
REPLACED: Final = "the installation was replaced while this process runs: restart it"

log = logs.get_logger(__name__)


def _identify(files: Sequence[Path]) -> list[tuple[int, ...]]:
    """Return what tells each file from one that is put in its place; nothing of one that is missing."""
    found: list[tuple[int, ...]] = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            found.append(())
        else:
            found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return found


_AT_START: Final = _identify(FILES)


def was_replaced() -> bool:
    """Whether the installation of this process is a different one than at its start, or gone. Blocks for a moment."""
    return _identify(FILES) != _AT_START


def import_late(modules: Sequence[str]) -> None:
    """Import modules that no start needs. Blocks: a process calls it once it is ready, on a thread."""
    for name in modules:
        try:
            import_module(name)
        except ImportError as error:  # an optional one: anyone who needs it gets the same error
            log.warning("a module can't be imported", module=name, cause=str(error))


async def watch_installation(
    process_state: ProcessState, *, replaced: Callable[[], bool] = was_replaced, seconds: float = LOOK_SECONDS
) -> None:
    """Wait until the installation of this process was replaced, and say so; `replaced` is called on a thread."""
    while True:
        if await asyncio.to_thread(replaced):
            break
        await next_tick(seconds)
    process_state.warn(WARNING, REPLACED)
    log.warning(REPLACED, build=flowhook.__version__)
