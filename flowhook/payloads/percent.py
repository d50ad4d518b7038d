"""Percent-decoding in linear time for any input.

`urllib.parse.unquote_to_bytes` runs a few lines of Python for each percent sign, and raises an exception for each that
does not begin an escape. Here escapes are rewritten as quoted-printable (RFC 2045, section 6.7), which differs only in
the first character of an escape, and decoded in C.

Source: RFC 3986, section 2.1; https://url.spec.whatwg.org/#percent-decode.
"""

from __future__ import annotations

import re
from binascii import a2b_qp
from typing import Final

_NO_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def percent_decode(data: bytes) -> bytes:
    """Decode percent escapes; a percent sign that does not begin an escape is unchanged."""
    return decode_escapes(escape_stray_percents(data)) if b"%" in data else data


def escape_stray_percents(data: bytes) -> bytes:
    """Escape each percent sign that does not begin an escape, for `decode_escapes`."""
    for _ in range(2):  # of two in a row the first begins no escape; the second pass finds pairs that overlap the first
        data = data.replace(b"%%", b"%25%")
    return _NO_ESCAPE.sub(b"%25", data)


def decode_escapes(data: bytes) -> bytes:
    """Decode percent escapes in (a part of) a result of `escape_stray_percents`."""
    return a2b_qp(data.replace(b"=", b"=3D").replace(b"%", b"="))
