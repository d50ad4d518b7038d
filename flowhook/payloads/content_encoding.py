"""Compressed bodies: `Content-Encoding` undone, a piece at a time and no further than a limit.

Source: RFC 9110, section 8.4; RFC 1952 (gzip), RFC 1950 and 1951 (deflate), RFC 7932 (br).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Final

import brotli

from flowhook.errors import InvalidError

MAX_CODINGS: Final = 3
"""Codings that may be applied one over the other."""

PIECE_BYTES: Final = 256 * 1024
"""How much is decompressed at a time."""

_Inflate = Callable[[bytes, int], bytes]


def decompress(body: bytes, codings: str, limit: int) -> bytes:
    """Undo the codings of a body.

    Args:
        body: as received.
        codings: value of `Content-Encoding`: names, separated by commas, in the order they were applied.
        limit: bytes that the result, and whatever lies between, may have.

    Raises:
        InvalidError: a coding is not known (`ENCODING_UNKNOWN`), the body is not of it (`BODY_INVALID`), or there is
            more in it than allowed (`BODY_TOO_LARGE`).
    """
    names = [name for part in codings.split(",") if (name := part.strip().lower()) and name != "identity"]
    if len(names) > MAX_CODINGS:
        raise InvalidError(f"a body has at most {MAX_CODINGS} content codings", reason="ENCODING_UNKNOWN")
    for name in reversed(names):
        inflate = _CODINGS.get(name)
        if inflate is None:
            raise InvalidError("the content coding is not gzip, deflate or br", reason="ENCODING_UNKNOWN")
        body = inflate(body, limit)
    return body


def _gzip(body: bytes, limit: int) -> bytes:
    pieces: list[bytes] = []
    left = limit
    rest = body
    while True:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        left, rest = _inflate(member, rest, pieces, left)
        if not rest.strip(b"\0"):  # members may be followed by zeros (RFC 1952 says nothing; gzip pads so)
            return b"".join(pieces)


def _deflate(body: bytes, limit: int) -> bytes:
    """Undo zlib's format; some senders leave its header out (RFC 9110, section 8.4.1.2, note)."""
    for window in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        pieces: list[bytes] = []
        try:
            _, rest = _inflate(zlib.decompressobj(window), body, pieces, limit)
        except InvalidError as error:
            if error.reason == "BODY_TOO_LARGE" or window < 0:
                raise
            continue
        if not rest:
            return b"".join(pieces)
    raise _garbled()


def _inflate(member: zlib._Decompress, data: bytes, pieces: list[bytes], left: int) -> tuple[int, bytes]:
    """Decompress one stream; returns how many bytes are still allowed, and what follows the stream."""
    try:
        while not member.eof:
            piece = member.decompress(data, min(PIECE_BYTES, left + 1))
            if not piece and not member.unconsumed_tail and not member.eof:
                raise _garbled()  # it ends too early
            pieces.append(piece)
            left -= len(piece)
            if left < 0:
                raise _too_large()
            data = member.unconsumed_tail
    except zlib.error:
        raise _garbled() from None
    return left, member.unused_data


def _brotli(body: bytes, limit: int) -> bytes:
    decoder = brotli.Decompressor()
    pieces: list[bytes] = []
    size = 0
    data = body
    try:
        while not decoder.is_finished():
            piece = decoder.process(data, output_buffer_limit=PIECE_BYTES)
            data = b""
            if not piece and not decoder.is_finished() and decoder.can_accept_more_data():
                raise _garbled()
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise _too_large()
    except brotli.error:
        raise _garbled() from None
    return b"".join(pieces)


_CODINGS: Final[Mapping[str, _Inflate]] = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "br": _brotli}


def _garbled() -> InvalidError:
    return InvalidError("the body is not what its Content-Encoding says", reason="BODY_INVALID")


def _too_large() -> InvalidError:
    return InvalidError("the body is too large when decompressed", reason="BODY_TOO_LARGE")
