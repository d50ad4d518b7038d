"""Only pages of this process may have something changed."""

from __future__ import annotations

import pytest
from support.cases import cases

from admin.security.same_origin import is_embedded_elsewhere, is_same_origin

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
