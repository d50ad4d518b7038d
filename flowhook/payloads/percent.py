"""Percent-encoding undone, in a time that is linear whatever the bytes.

`urllib.parse.unquote_to_bytes` runs a few lines of Python for each percent sign, and an exception for one that begins
no escape. Here they are rewritten as quoted-printable (RFC 2045, section 6.7), whose escapes differ in their first
character only, and are read in C.

Source: RFC 3986, section 2.1; https://url.spec.whatwg.org/#percent-decode.
"""

from __future__ import annotations

import re
from binascii import a2b_qp
from typing import Final

_NO_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def percent_decode(data: bytes) -> bytes:
    """Return what is escaped; a percent sign that begins no escape stays."""
    return unescape(with_escapes_only(data)) if b"%" in data else data


def with_escapes_only(data: bytes) -> bytes:
    """Return the same with each percent sign that begins no escape escaped, for `unescape`."""
    for _ in range(2):  # the first of two begins none; the second time around for those between the pairs found first
        data = data.replace(b"%%", b"%25%")
    return _NO_ESCAPE.sub(b"%25", data)


def unescape(data: bytes) -> bytes:
    """Return what is escaped in a part of what `with_escapes_only` returned."""
    return a2b_qp(data.replace(b"=", b"=3D").replace(b"%", b"="))
