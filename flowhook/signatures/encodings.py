"""Encodes digests as text, so that sent text is compared with expected text and never decoded.

So there is nothing to reject before the comparison, and only the intended spellings of a signature pass: hex in either
case, base64 with or without its padding. (Decoders are laxer than they look: base64 has unused bits in its last
character.)
"""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from binascii import hexlify
from collections.abc import Callable, Mapping
from hashlib import new
from typing import Final

from flowhook.providers.scheme import Algorithm, EncodingName

_ALPHABETS: Final = {
    "hex": re.compile(rb"[0-9a-f]*"),
    "base64": re.compile(rb"[A-Za-z0-9+/]*"),
    "base64url": re.compile(rb"[A-Za-z0-9_-]*"),
}
_ENCODERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "hex": hexlify,
    "base64": b64encode,
    "base64url": urlsafe_b64encode,
}


class DigestEncoding:
    """Text encoding of the digests of one algorithm.

    Attributes:
        length: characters of a normalized digest.
    """

    __slots__ = ("_alphabet", "_encode", "_hex", "_padding", "length")

    def __init__(self, name: EncodingName, algorithm: Algorithm) -> None:
        self._hex = name == "hex"
        self._alphabet = _ALPHABETS[name]
        self._encode = _ENCODERS[name]
        longest = self._encode(bytes(new(algorithm, usedforsecurity=False).digest_size))
        self.length = len(longest.rstrip(b"="))
        self._padding = b"=" * (len(longest) - self.length)

    def encode(self, digest: bytes) -> bytes:
        """Return a digest as it is sent: lower case, padded."""
        return self._encode(digest)

    def normalize(self, sent: bytes) -> bytes:
        """Return the spelling that is compared: lower case, or without padding."""
        if self._hex:
            return sent.lower()
        return sent.removesuffix(self._padding) if self._padding else sent

    def is_well_formed(self, normalized: bytes) -> bool:
        """Return whether this could be a digest."""
        return len(normalized) == self.length and self._alphabet.fullmatch(normalized) is not None
