"""Compiles, caches and runs jq programs.

Also used by processes that do nothing else (`quarantine.process`), so this module has few imports.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import jq

PROGRAM_CACHE: Final = 2048  # maximum number of cached programs (LRU); about 10 KB each


class JqProgramCache:
    """An LRU cache of compiled jq programs, by source."""

    def __init__(self, size: int = PROGRAM_CACHE) -> None:
        self._compiled = lru_cache(size)(jq.compile)

    def first(self, source: str, text: str) -> str | None:
        """Return the first result of a program for a JSON input, None when it has none; raises ValueError. Blocking."""
        result: str | None = next(iter(self._compiled(source).input_text(text)), None)
        return result
