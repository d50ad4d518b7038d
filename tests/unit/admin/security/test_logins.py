"""A link is good once and from this machine; some logins can't be sent again."""

from __future__ import annotations

import pytest

from admin.security.sessions import LINK_SECONDS, MAX_LOGINS, LoginLink, SentLogins
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
        (CODE, HERE, 100.0 + LINK_SECONDS),
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


def test_logins_are_remembered_up_to_a_number():
    sent = SentLogins()
    assert b"0" not in sent
    for number in range(MAX_LOGINS):
        sent.add(str(number).encode())
    sent.add(b"1")
    assert all(str(number).encode() in sent for number in range(MAX_LOGINS))
    sent.add(b"another")
    assert (b"0" in sent, b"1" in sent, b"another" in sent) == (False, True, True)
