"""Only names that are its own reach an admin process."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from admin.security.host_check import is_allowed_host

NAMES = frozenset({"admin.example.com", "fd00::5"})


@cases(
    ("host", "own"),
    [
        (None, "10.1.2.3"),
        ("localhost", "127.0.0.1"),
        ("LOCALHOST.:8081", "127.0.0.1"),
        ("127.0.0.1:8081", "127.0.0.1"),
        ("127.8.9.1", "127.0.0.1"),
        ("[::1]:8081", "::1"),
        ("10.1.2.3:8081", "10.1.2.3"),
        ("10.1.2.3", "::ffff:10.1.2.3"),
        ("[fd00::1]:8081", "fd00::1"),
        ("[FD00:0::1]", "fd00::1"),
        ("[fe80::1]", "fe80::1%eth0"),
        ("[fd00::5]", "fd00::1"),
        ("admin.example.com:443", "10.1.2.3"),
        ("Admin.Example.com", "10.1.2.3"),
    ],
)
def test_its_own_names_are_expected(host, own):
    assert is_allowed_host(host, own, NAMES)


@cases(
    "host",
    [
        "",
        "attacker.example",
        "admin.example.com.attacker.example",
        "admin.example.com@attacker.example",
        "localhost,attacker.example",
        "10.1.2.4",
        "0.0.0.0",
        "[::]",
        "2130706433",
        "0x7f.1",
        "127.1",
        "10.1.2.3.attacker.example",
        "[10.1.2.3]x",
        "[fe80::2]",
        "localhost:x",
        "localhost:8081:8081",
    ],
)
def test_other_names_are_not(host):
    assert not is_allowed_host(host, "10.1.2.3", NAMES)


@given(st.text(max_size=40))
def test_whatever_is_sent_nothing_is_raised(host):
    is_allowed_host(host, "10.1.2.3", NAMES)
