"""Collects the values of a trace as JSON texts: each once, cut at a size, and all of them within a limit."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from flowhook.model.execution_trace import MAX_BYTES, MAX_VALUE_BYTES, TracedValue
from flowhook.security import callback_tokens
from runner.interpreter import json_codec
from runner.interpreter.errors import TaskFault

_TOO_DEEP: Final = '"(nested too deeply)"'


class ValueTable:
    """Values by index.

    Attributes:
        values: all values, in the order in which they were added.
    """

    def __init__(self) -> None:
        """Hold no values yet. Tokens of one-time URLs are masked in all of them: whoever has one may use it."""
        self.values: list[TracedValue] = []
        self._known: dict[int, tuple[Any, int]] = {}
        """By identity, the value (so that the identity is not used again) and its index."""
        self._by_digest: dict[bytes, int] = {}
        self._bytes = 0

    def add(self, value: Any) -> int:
        """Add a value, unless it was added before, and return its index."""
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        try:
            text = json_codec.encode(value).decode("utf-8", "replace")
        except TaskFault:
            text = _TOO_DEEP
        index = self.add_text(text)
        self._known[id(value)] = (value, index)
        return index

    def add_json(self, value: bytes) -> int:
        """Add a value that is JSON already, and return its index."""
        return self.add_text(value.decode("utf-8", "replace"))

    def add_text(self, text: str) -> int:
        """Add the JSON text of a value, unless it was added before, and return its index."""
        text = self.masked(text)
        data = text.encode()
        digest = hashlib.blake2b(data).digest()
        known = self._by_digest.get(digest)
        if known is not None:
            return known
        self._by_digest[digest] = len(self.values)
        kept = data if len(data) <= MAX_VALUE_BYTES else data[:MAX_VALUE_BYTES]
        if self._bytes + len(kept) > MAX_BYTES:
            kept = b""
        self._bytes += len(kept)
        cut = len(kept) < len(data)
        self.values.append(TracedValue(kept.decode("utf-8", "ignore") if cut else text, len(data), cut))
        return len(self.values) - 1

    @staticmethod
    def masked(text: str) -> str:
        """Return a text with the tokens of one-time URLs masked."""
        return callback_tokens.mask(text)
