"""Leave out what a library imports only because it is there, and what Flowhook has no use for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def module(name: str) -> Iterator[None]:
    """Have `import NAME` raise ImportError within the block, unless it is imported already.

    For imports while the process has one thread. Source: https://docs.python.org/3/reference/import.html#the-module-cache
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment] # what the import system takes for a module that is not there
    try:
        yield
    finally:
        del sys.modules[name]
