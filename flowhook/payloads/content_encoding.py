"""Decompression of bodies (`Content-Encoding`), in chunks and up to a limit.

In every coding, long input can produce no output: gzip's members, deflate's blocks, brotli's metadata. So the ratio of
output to input has a lower bound, members are counted, and decoders receive the input in slices, because they copy the
part that they have not consumed.

Source: RFC 9110, section 8.4; RFC 1952 (gzip), RFC 1950 and 1951 (deflate), RFC 7932 (br).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Final

import brotli

from flowhook.errors import InvalidError
from flowhook.limits import KIB

MAX_CODINGS: Final = 3  # codings that may be applied to one body, one after another

# members of a gzip body; programs that write a member for each 64 KiB need at most half as many
MAX_MEMBERS: Final = 500
# compressed input may have at most so many times its output, plus an allowance for flushes and headers; the same bound
# limits the output of a coding that was applied to compressed data
MAX_GROWTH: Final = 2
SLACK_BYTES: Final = 64 * KIB
PIECE_BYTES: Final = 256 * KIB  # output size of one call of a decoder
SLICE_BYTES: Final = 16 * KIB  # input size of one call of a decoder

_Inflate = Callable[[bytes, int], bytes]


def decompress(body: bytes, codings: str, limit: int) -> bytes:
    """Decompress a body; the result, and each intermediate one, has at most `limit` bytes.

    `codings` is the value of `Content-Encoding`: names, separated by commas, in the order in which they were applied.

    Raises:
        InvalidError: a coding is unknown (`ENCODING_UNKNOWN`), the body is not valid in it (`BODY_INVALID`), or the
            result is too large (`BODY_TOO_LARGE`).
    """
    names = [name for part in codings.split(",") if (name := part.strip().lower()) and name != "identity"]
    if len(names) > MAX_CODINGS:
        raise InvalidError(f"a body has at most {MAX_CODINGS} content codings", reason="ENCODING_UNKNOWN")
    for left in range(len(names) - 1, -1, -1):
        inflate = _CODINGS.get(names[left])
        if inflate is None:
            raise InvalidError("the content coding is not gzip, deflate or br", reason="ENCODING_UNKNOWN")
        body = inflate(body, min(limit, MAX_GROWTH * len(body) + SLACK_BYTES) if left else limit)
    return body


class _Output:
    """Output of a decoder, which limits its size and its ratio to the input."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._allowed_in = SLACK_BYTES
        self._pieces: list[bytes] = []

    @property
    def room(self) -> int:
        """Bytes to request from the decoder: one more than allowed, to detect that there are more."""
        return min(PIECE_BYTES, self._left + 1)

    def append(self, piece: bytes) -> None:
        self._left -= len(piece)
        if self._left < 0:
            raise InvalidError("the body is too large when decompressed", reason="BODY_TOO_LARGE")
        self._allowed_in += MAX_GROWTH * len(piece)
        self._pieces.append(piece)

    def check(self, taken: int) -> None:
        """Check the ratio, after the first `taken` bytes of input have been decoded completely."""
        if taken > self._allowed_in:
            raise InvalidError("the body has data after its compressed part", reason="BODY_INVALID")

    def whole(self) -> bytes:
        return b"".join(self._pieces)


def _gzip(body: bytes, limit: int) -> bytes:
    output = _Output(limit)
    end = 0
    for _ in range(MAX_MEMBERS):
        end = _inflate(zlib.decompressobj(zlib.MAX_WBITS | 16), body, end, output)
        if body[end : end + 1] in (b"", b"\0"):
            if body[end:].strip(b"\0"):  # zeros may follow the last member: gzip pads so, RFC 1952 does not mention it
                raise _garbled()
            return output.whole()
    raise InvalidError(f"a gzip body has at most {MAX_MEMBERS} members", reason="BODY_INVALID")


def _deflate(body: bytes, limit: int) -> bytes:
    """Decode the zlib format; some senders omit its header (RFC 9110, section 8.4.1.2, note)."""
    for window in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        output = _Output(limit)
        try:
            end = _inflate(zlib.decompressobj(window), body, 0, output)
        except InvalidError as error:
            if error.reason == "BODY_TOO_LARGE" or window < 0:
                raise
            continue
        if end == len(body):
            return output.whole()
    raise _garbled()


def _inflate(member: zlib._Decompress, body: bytes, start: int, output: _Output) -> int:
    """Decompress the stream that begins at `start` and return its end."""
    end = start
    try:
        while data := body[end : end + SLICE_BYTES]:
            end += len(data)
            while not member.eof:
                room = output.room
                piece = member.decompress(data, room)
                output.append(piece)
                data = member.unconsumed_tail
                if not data and len(piece) < room:  # otherwise the decoder may have more output for the same input
                    break
            if member.eof:
                return end - len(member.unused_data)
            output.check(end)
    except zlib.error:
        raise _garbled() from None
    raise _garbled()  # the stream ends too early


def _brotli(body: bytes, limit: int) -> bytes:
    decoder = brotli.Decompressor()
    output = _Output(limit)
    end = 0
    try:
        while not decoder.is_finished():
            data = body[end : end + SLICE_BYTES]
            if not data:
                raise _garbled()  # the stream ends too early
            end += len(data)
            while piece := decoder.process(data, output_buffer_limit=PIECE_BYTES):
                output.append(piece)
                if decoder.is_finished():
                    break
                data = b""
            output.check(end)
    except brotli.error:
        raise _garbled() from None
    if end < len(body):
        raise _garbled()
    return output.whole()


_CODINGS: Final[Mapping[str, _Inflate]] = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "br": _brotli}


def _garbled() -> InvalidError:
    return InvalidError("the body is not valid in its Content-Encoding", reason="BODY_INVALID")
