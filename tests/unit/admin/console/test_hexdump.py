from __future__ import annotations

from admin.console.hexdump import hexdump


def test_bytes_are_shown_as_xxd_does():
    assert hexdump(b"POST / \xff\x00 0123456789") == (
        "00000000  50 4f 53 54 20 2f 20 ff 00 20 30 31 32 33 34 35  POST / .. 012345\n"
        "00000010  36 37 38 39                                      6789"
    )


def test_nothing_is_nothing():
    assert hexdump(b"") == ""
