"""Headers of the PROXY protocol, in both versions; read to their end and no further."""

from __future__ import annotations

import io
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from edge.http.peer import ProxyProtocolError, read_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
REST = b"POST /hook/f HTTP/1.1\r\n"


async def read(data):
    """Return the address and what is left to be read."""
    stream = io.BytesIO(data)

    async def exactly(count):
        piece = stream.read(count)
        if len(piece) < count:
            raise EOFError
        return piece

    return await read_header(exactly), stream.read()


def binary(command, family, content):
    return SIGNATURE + struct.pack(">BBH", command, family, len(content)) + content


IPV4 = ip_address("192.0.2.9").packed + ip_address("10.0.0.1").packed + b"\0\1\0\2"
IPV6 = ip_address("2001:db8::1").packed + ip_address("2001:db8::2").packed + b"\0\1\0\2"


@cases(
    ("header", "address"),
    [
        (b"PROXY TCP4 192.0.2.9 10.0.0.1 56324 443\r\n", "192.0.2.9"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
        (binary(0x21, 0x11, IPV4), "192.0.2.9"),
        (binary(0x21, 0x21, IPV6 + b"\x03\x00\x04abcd"), "2001:db8::1"),
        (binary(0x21, 0x31, b"x" * 216), None),
        (binary(0x20, 0x00, b""), None),
    ],
)
async def test_a_header_says_whom_the_connection_is_from(header, address):
    assert await read(header + REST) == (None if address is None else ip_address(address), REST)


@cases(
    "header",
    [
        REST,
        b"PROXY TCP4 nonsense 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.9\r\n",
        b"PROXY " + b"x" * 200,
        binary(0x31, 0x11, IPV4),
        binary(0x22, 0x11, IPV4),
        binary(0x21, 0x11, b"short"),
        binary(0x21, 0x11, b"x" * 5000),
    ],
)
async def test_what_is_no_header_is_refused(header):
    with pytest.raises(ProxyProtocolError):
        await read(header + b"\r\n")


@given(data=st.binary(max_size=60))
async def test_whatever_comes_is_a_header_or_none(data):
    for start in (b"PROXY ", SIGNATURE, b""):
        try:
            await read(start + data)
        except (ProxyProtocolError, EOFError):
            continue
