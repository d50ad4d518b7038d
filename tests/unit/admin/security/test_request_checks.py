"""Requests name this process, and only its pages may have something changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from admin.security.request_checks import is_allowed_host, is_embedded_elsewhere, is_same_origin

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


HOST = "admin.example.com:8081"


@cases(
    ("origin", "fetch_site"),
    [
        (None, None),  # no browser
        (f"http://{HOST}", None),
        (f"https://{HOST}", "same-origin"),
        (f"http://{HOST.upper()}", None),
        (None, "same-origin"),
        (None, "none"),
    ],
)
def test_own_pages_may(origin, fetch_site):
    assert is_same_origin(HOST, origin, fetch_site)


@cases(
    ("origin", "fetch_site"),
    [
        ("null", None),
        ("", None),
        ("http://evil.example", None),
        ("http://admin.example.com", None),  # another port
        ("http://admin.example.com:8082", "same-site"),
        (f"http://user@{HOST}", None),
        (f"ftp://{HOST}", None),
        (f"http://{HOST}.evil.example", None),
        (f"http://{HOST}", "cross-site"),
        (f"http://{HOST}", "same-site"),
        (None, "cross-site"),
        (None, ""),
        ("http://[", None),
    ],
)
def test_others_may_not(origin, fetch_site):
    assert not is_same_origin(HOST, origin, fetch_site)


def test_without_a_host_no_origin_is_the_same():
    assert not is_same_origin(None, "http://", None)
    assert is_same_origin(None, None, None)


@pytest.mark.parametrize(
    ("site", "mode", "dest"),
    [
        (None, None, None),
        ("same-origin", "cors", "empty"),
        ("none", "navigate", "document"),
        ("cross-site", "navigate", "document"),
        ("same-site", "navigate", None),
    ],
)
def test_own_pages_fetch_and_others_link(site, mode, dest):
    assert not is_embedded_elsewhere(site, mode, dest)


@pytest.mark.parametrize(
    ("site", "mode", "dest"),
    [
        ("same-site", "cors", "empty"),
        ("cross-site", "no-cors", "image"),
        ("cross-site", "navigate", "iframe"),
        ("same-site", None, None),
        ("", "cors", "empty"),
    ],
)
def test_others_neither_fetch_nor_embed(site, mode, dest):
    assert is_embedded_elsewhere(site, mode, dest)
