"""Blocks optional imports: hides an installed module from libraries that would import it although it is not needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def block_import(name: str) -> Iterator[None]:
    """Make `import NAME` raise ImportError within the block, unless the module is imported already.

    Not thread-safe: use it while the process has one thread.

    Source: https://docs.python.org/3/reference/import.html#the-module-cache
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment] # the import system raises ImportError for a None entry
    try:
        yield
    finally:
        del sys.modules[name]
