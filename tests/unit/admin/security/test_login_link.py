"""The link that `flowhook up` prints: good once, for an hour, and from this machine."""

from __future__ import annotations

import pytest

from admin.security.login_link import SECONDS, LoginLink
from flowhook.errors import UnauthenticatedError

CODE = "c" * 43
HERE = "127.0.0.1"


@pytest.fixture
def link():
    return LoginLink(CODE, lambda: "fhk_token", now=100.0)


@pytest.mark.parametrize("peer", [HERE, "127.0.0.2", "::1", "::ffff:127.0.0.1"])
def test_it_logs_in_once(link, peer):
    assert link.redeem(CODE, peer, 101.0) == "fhk_token"
    with pytest.raises(UnauthenticatedError):
        link.redeem(CODE, peer, 102.0)


@pytest.mark.parametrize(
    ("code", "peer", "now"),
    [
        (CODE[:-1], HERE, 101.0),
        ("", HERE, 101.0),
        ("ä\udcff", HERE, 101.0),
        (CODE, "192.0.2.1", 101.0),
        (CODE, "", 101.0),
        (CODE, HERE, 100.0 + SECONDS),
    ],
)
def test_a_wrong_code_another_machine_and_a_late_one_are_refused_and_use_nothing_up(link, code, peer, now):
    with pytest.raises(UnauthenticatedError) as caught:
        link.redeem(code, peer, now)
    assert caught.value.reason == "LOGIN_LINK_INVALID"
    assert link.redeem(CODE, HERE, 101.0) == "fhk_token"


def test_without_a_code_nothing_is_one():
    with pytest.raises(UnauthenticatedError):
        LoginLink("", str, now=0.0).redeem("", HERE, 0.0)
