"""Codings that go on with nothing in them, and those that hold what is compressed once more, have an end."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook.errors import InvalidError
from flowhook.payloads.content_encoding import MAX_MEMBERS, SLACK_BYTES, decompress

LIMIT = 1 << 20


def refusal(body, coding, limit=LIMIT):
    with pytest.raises(InvalidError) as caught:
        decompress(body, coding, limit)
    return caught.value.reason, caught.value.message


def flushed(pieces, flush):
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(compressor.compress(piece) + compressor.flush(flush) for piece in pieces) + compressor.flush()


def test_members_are_counted():
    member = gzip.compress(b"0123456789")
    assert decompress(member * MAX_MEMBERS, "gzip", LIMIT) == b"0123456789" * MAX_MEMBERS
    assert "500 members" in refusal(member * (MAX_MEMBERS + 1), "gzip")[1]


@pytest.mark.parametrize("rest", [b"\0" * 5 + b"1", b"\0" * 5 + gzip.compress(b"1", mtime=0), b"1"])
def test_only_zeros_may_follow_the_last_member(rest):
    body = gzip.compress(b"0")
    assert decompress(body + b"\0" * 5, "gzip", LIMIT) == b"0"
    assert refusal(body + rest, "gzip")[0] == "BODY_INVALID"


@pytest.mark.parametrize(
    ("coding", "begin", "nothing", "end"),
    [
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b"\0\0\0\xff\xff", b"\x03\0" + b"\0" * 8),
        ("deflate", b"\x78\x9c", b"\0\0\0\xff\xff", b"\x03\0\0\0\0\1"),
        ("deflate", b"", b"\0\0\0\xff\xff", b"\x03\0"),
        ("br", b"\x0c", b"\x06", b"\x03"),
    ],
)
def test_blocks_of_nothing_are_no_more_than_flushes_would_write(coding, begin, nothing, end):
    assert decompress(begin + nothing * 1000 + end, coding, LIMIT) == b""
    assert refusal(begin + nothing * SLACK_BYTES + end, coding)[0] == "BODY_INVALID"


@pytest.mark.parametrize("flush", [zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH])
def test_lines_may_be_flushed_one_by_one(flush):
    lines = [b"%d is a line\n" % number for number in range(20_000)]
    assert decompress(flushed(lines, flush), "gzip", LIMIT) == b"".join(lines)


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, brotli.compress])
def test_what_is_compressed_twice_may_not_have_become_much_smaller(compress):
    coding = {gzip.compress: "gzip", zlib.compress: "deflate", brotli.compress: "br"}[compress]
    inner = gzip.compress(b"a" * 1000) + b"\0" * 2 * SLACK_BYTES
    assert decompress(inner, "gzip", LIMIT) == b"a" * 1000
    assert refusal(compress(inner), f"gzip, {coding}")[0] == "BODY_TOO_LARGE"
    noise = bytes(number * number * 7919 >> 5 & 255 for number in range(200_000))
    assert decompress(compress(compress(noise)), f"{coding}, {coding}", LIMIT) == noise


def test_what_follows_the_end_of_a_brotli_stream_is_refused():
    assert refusal(brotli.compress(b"0") + b"\x06" * 100_000, "br")[0] == "BODY_INVALID"


@given(st.binary(max_size=100), st.integers(1, 5000), st.sampled_from(["gzip", "deflate", "br"]), st.integers(-1, 1))
def test_what_comes_out_is_what_went_in_up_to_the_limit(piece, times, coding, more):
    compress = {"gzip": gzip.compress, "deflate": zlib.compress, "br": lambda body: brotli.compress(body, quality=1)}
    body = piece * times
    limit = len(body) + more
    if more < 0:
        if body:
            assert refusal(compress[coding](body), coding, limit)[0] == "BODY_TOO_LARGE"
    else:
        assert decompress(compress[coding](body), coding, limit) == body
