"""Compressed bodies: bombs, members and blocks without content, one coding over another.

Of zstd, which no Python of ours can write, there are frames put together by hand.

Source: RFC 1951 and 1952 (deflate, gzip), RFC 7932 (brotli), RFC 8878 (zstd).
"""

from __future__ import annotations

import gzip
import zlib

import brotli
from support.hostile import form_bodies, json_bodies, text_bodies, xml_bodies
from support.hostile.body import Body, filled

INFLATED_BYTES = 16 * 1024 * 1024
"""What a bomb has in it."""

_STORED = b"\0\0\0\xff\xff"
"""A deflate block of no bytes, that is not the last one; what a flush writes."""

_METADATA = b"\x06"
"""A brotli metablock of no bytes, padded to a byte."""


def _bits(*fields):
    """Return bytes of (value, number of bits), the lowest bit first."""
    value = shift = 0
    for field, count in fields:
        value |= field << shift
        shift += count
    return value.to_bytes((shift + 7) // 8, "little")


def _dynamic_blocks():
    """Return eight deflate blocks of no bytes, each with Huffman codes of its own."""
    lengths = [0] * 18
    lengths[2], lengths[17] = 1, 1  # codes for 18, "zeros", and for 1, a length
    one = [(0, 1), (2, 2), (0, 5), (0, 5), (14, 4), *((length, 3) for length in lengths)]
    one += [(1, 1), (138 - 11, 7), (1, 1), (118 - 11, 7), (0, 1), (0, 1)]  # 256 zeros, and the two codes
    one += [(0, 1)]  # the end of the block
    return _bits(*one * 8)


_DYNAMIC = _dynamic_blocks()
_FIXED = _bits(*[(0, 1), (1, 2), (0, 7)] * 8)
"""Eight deflate blocks of no bytes, ten bits each."""


def _gzip(deflated):
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + deflated


def _ended_gzip(blocks):
    """Return a member of blocks that hold nothing."""
    return _gzip(blocks + b"\x03\0") + b"\0" * 8


def _ended_deflate(blocks):
    return b"\x78\x9c" + blocks + b"\x03\0" + zlib.adler32(b"").to_bytes(4, "big")


def _flushed(data, flush):
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    content = b"".join(compressor.compress(data[at : at + 1]) + compressor.flush(flush) for at in range(len(data)))
    return content + compressor.flush()


def _members(max_bytes):
    """Bodies that hold next to nothing, as (name, coding, bytes)."""
    yield "members of nothing", "gzip", filled(gzip.compress(b""), max_bytes)
    yield "members of a byte", "gzip", filled(gzip.compress(b"0"), max_bytes)
    yield "members of a byte, with zeros between", "gzip", filled(gzip.compress(b"0") + b"\0" * 20, max_bytes)
    yield "a member and garbage", "gzip", filled(b"\x1f", max_bytes, gzip.compress(b"0"))
    yield "a member and zeros", "gzip", filled(b"\0", max_bytes, gzip.compress(b"0"))
    name = b"\x1f\x8b\x08\x08\0\0\0\0\0\xff"
    yield "a member of a long file name", "gzip", filled(b"n", max_bytes, name, b"\0\x03\0" + b"\0" * 8)
    yield "a member of a file name without end", "gzip", filled(b"n", max_bytes, name)
    for kind, blocks in (("stored", _STORED), ("fixed", _FIXED), ("dynamic", _DYNAMIC)):
        yield f"{kind} blocks of nothing", "gzip", _ended_gzip(filled(blocks, max_bytes - 20))
        yield f"{kind} blocks of nothing", "deflate", _ended_deflate(filled(blocks, max_bytes - 20))
        yield f"{kind} blocks of nothing, and no end", "deflate", b"\x78\x9c" + filled(blocks, max_bytes - 2)
        yield f"{kind} blocks of nothing, bare", "deflate", filled(blocks, max_bytes - 2) + b"\x03\0"
    yield "a flush after each byte", "gzip", _flushed(b"[" + b" " * (max_bytes // 20) + b"]", zlib.Z_SYNC_FLUSH)
    yield "a full flush after each byte", "gzip", _flushed(b"[" + b" " * (max_bytes // 20) + b"]", zlib.Z_FULL_FLUSH)
    yield "metadata of nothing", "br", filled(_METADATA, max_bytes, b"\x0c", b"\x03")
    yield "metadata without end", "br", filled(_METADATA, max_bytes, b"\x0c")
    yield "an end, and more", "br", filled(b"\x06", max_bytes, brotli.compress(b"0"))
    yield "noise", "br", filled(bytes(range(1, 255)), max_bytes, b"\x0b")
    yield "frames of nothing", "zstd", filled(b"\x50\x2a\x4d\x18\0\0\0\0", max_bytes)
    repeated = (128 * 1024 << 3 | 1 << 1).to_bytes(3, "little") + b" "
    yield "a bomb", "zstd", filled(repeated, min(max_bytes, 4096), b"\x28\xb5\x2f\xfd\0\x58", b"\x01\0\0")


def _bombs(max_bytes):
    """Bodies that hold what is itself hostile, as (name, media type, coding, bytes)."""
    spaces = b" " * (INFLATED_BYTES + 1)
    for coding, compress in (("gzip", _gzipped), ("deflate", _deflated), ("br", _brotli)):
        yield f"{coding}, a bomb", json_bodies.JSON, coding, compress(spaces)
    twice = _gzipped(_gzipped(spaces))
    yield "a bomb in a bomb", json_bodies.JSON, "gzip, gzip", twice
    yield (
        "a bomb in a bomb in a bomb",
        json_bodies.JSON,
        "gzip, br, deflate",
        _deflated(_brotli(_gzipped(spaces))),
    )
    yield "more codings than are undone", json_bodies.JSON, "gzip, " * 1000 + "gzip", twice
    blocks = _gzipped(_ended_deflate(filled(_DYNAMIC, INFLATED_BYTES)))
    yield "a bomb of dynamic blocks", json_bodies.JSON, "deflate, gzip", blocks
    members = _gzipped(filled(gzip.compress(b""), INFLATED_BYTES))
    yield "a bomb of members", json_bodies.JSON, "gzip, gzip", members
    metadata = _gzipped(filled(_METADATA, INFLATED_BYTES, b"\x0c", b"\x03"))
    yield "a bomb of metadata", json_bodies.JSON, "br, gzip", metadata
    noise = bytes(index * index * 7919 >> 5 & 255 for index in range(251)) * (max_bytes // 300)
    yield "what can not be compressed", "text/plain; charset=iso-8859-1", "gzip", gzip.compress(noise, 0)
    for kind, before, piece, after in _REPEATED:
        content = _brotli(filled(piece, INFLATED_BYTES - 64 * 1024, before, after))
        yield f"br, {(before + piece).decode()!r} of {kind}", kind, "br", content


_REPEATED = (
    (json_bodies.JSON, b"[", b"[],", b"0]"),
    (json_bodies.JSON, b'"', b",[{:", b'"'),
    (json_bodies.JSON, b"", b"[", b""),
    (form_bodies.FORM, b"a", b"[b]", b"=1"),
    (form_bodies.FORM, b"a", b"[", b""),
    (form_bodies.FORM, b"a=", b"%", b""),
    (form_bodies.FORM, b"a=", b"%41", b""),
    (form_bodies.FORM, b"", b"a=&", b""),
    (xml_bodies.XML, b"<a>", b"<b/>", b"</a>"),
    (xml_bodies.XML, b"<a", b" b=''", b"/>"),
    (xml_bodies.XML, b"<a>", b"&amp;", b"</a>"),
    (text_bodies.PROPERTIES, b"", b"a\\\n", b""),
    (text_bodies.PROPERTIES, b"a=", b"\\b", b""),
)
"""What a few bytes of brotli say: media type, beginning, what is repeated, end."""


def _gzipped(content):
    return gzip.compress(content, 1, mtime=0)


def _deflated(content):
    return zlib.compress(content, 1)


def _brotli(content):
    return brotli.compress(content, quality=1)


def bodies(max_bytes):
    for name, coding, content in _members(max_bytes):
        yield Body(f"compressed/{coding}, {name}", json_bodies.JSON, content, (("content-encoding", coding.encode()),))
    for name, kind, coding, content in _bombs(max_bytes):
        if len(content) <= max_bytes:
            yield Body(f"compressed/{name}", kind, content, (("content-encoding", coding.encode()),))
