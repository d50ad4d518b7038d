"""Digest authentication, held against the vectors of its RFCs."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from runner.outbound.digest import MAX_SESSIONS, Challenge, Sessions, answer, choose
from runner.outbound.policies import Digest

MUFASA = Digest(username="Mufasa", password="Circle of Life")
REALM, NONCE = "http-auth@example.org", "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
OPAQUE = "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
CLIENT_NONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
OFFER = f'Digest realm="{REALM}", qop="auth, auth-int", algorithm={{}}, nonce="{NONCE}", opaque="{OPAQUE}"'


def response_in(authorization):
    return re.search(r'response="([0-9a-f]+)"', authorization)[1]


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_of_rfc_7616_section_3_9_1(algorithm, expected):
    challenge = choose([OFFER.format(algorithm)])
    value = answer(challenge, MUFASA, method="GET", target="/dir/index.html", count=1, nonce=CLIENT_NONCE)
    assert value == (
        f'Digest username="Mufasa", realm="{REALM}", uri="/dir/index.html", algorithm={algorithm}, nonce="{NONCE}", '
        f'response="{expected}", nc=00000001, cnonce="{CLIENT_NONCE}", qop=auth, opaque="{OPAQUE}"'
    )


def test_the_example_of_rfc_2617_section_3_5_and_the_corrected_one_of_rfc_2069():
    offer = 'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
    counted, plain = choose([offer + ', qop="auth,auth-int"']), choose([offer])
    account = Digest(username="Mufasa", password="Circle Of Life")
    value = answer(counted, account, method="GET", target="/dir/index.html", count=1, nonce="0a4f113b")
    assert response_in(value) == "6629fae49393a05397450978507c4ef1"
    account = Digest(username="Mufasa", password="CircleOfLife")
    value = answer(plain, account, method="GET", target="/dir/index.html", count=1, nonce="unused")
    assert response_in(value) == "1949323746fe6a43ef61f9606e7febea"
    assert not {"nc", "cnonce", "qop", "algorithm"} & set(re.findall(r"(\w+)=", value))


@pytest.mark.parametrize(("algorithm", "function"), [("MD5-sess", hashlib.md5), ("SHA-256-sess", hashlib.sha256)])
def test_in_a_session_the_first_nonces_are_part_of_the_key(algorithm, function):
    def h(text):
        return function(text.encode()).hexdigest()

    key = h(f"{h(f'Mufasa:{REALM}:Circle of Life')}:{NONCE}:{CLIENT_NONCE}")
    expected = h(f"{key}:{NONCE}:00000002:{CLIENT_NONCE}:auth:{h('POST:/a?b=c')}")
    challenge = choose([OFFER.format(algorithm)])
    value = answer(challenge, MUFASA, method="POST", target="/a?b=c", count=2, nonce=CLIENT_NONCE)
    assert response_in(value) == expected


@cases(
    ("fields", "expected"),
    [
        ([], None),
        (["Basic realm=x"], None),
        (['Basic realm="x, Digest realm=y", Digest realm="a", nonce=n'], ("a", "n")),
        (["Negotiate YIIB==, NTLM", 'Digest realm="a\\"b", nonce="n"'], ('a"b', "n")),
        (["Negotiate", 'digest REALM="a" , Nonce = "n",'], ("a", "n")),
        (['Digest realm="a" nonce="n" qop="auth"'], ("a", "n")),
        (['Digest realm="a", nonce="n", algorithm=SHA-512-256, Digest realm="b", nonce="m"'], ("b", "m")),
        (['Digest realm="a", nonce="n", qop="auth-int"', 'Digest realm="b", nonce="m", qop="auth"'], ("b", "m")),
        (['Digest realm="a", nonce="n", algorithm=MD5-sess'], None),
        (['Digest realm="a"', 'Digest nonce="n"', 'Digest realm="a", nonce=""', "Digest"], None),
        (['Digest realm="a\r\nX: 1", nonce="n"'], None),
        ([OFFER.format("SHA-256"), OFFER.format("MD5")], (REALM, NONCE)),
    ],
)
def test_the_first_challenge_that_can_be_answered_is(fields, expected):
    challenge = choose(fields)
    assert (challenge and (challenge.realm, challenge.nonce)) == expected


@given(st.lists(st.text(alphabet='Digest realm="a\\",= nonc\r\n;') | st.text(), max_size=3))
def test_whatever_a_server_says_there_is_a_challenge_or_none(fields):
    challenge = choose([*fields])
    assert challenge is None or isinstance(challenge, Challenge)


def test_a_name_that_is_not_ascii_is_sent_as_the_rfc_says():
    account = Digest(username="Jäsøn Doe", password="x")
    value = answer(choose([OFFER.format("MD5")]), account, method="GET", target="/", count=1, nonce="n")
    assert "username*=UTF-8''J%C3%A4s%C3%B8n%20Doe, " in value


def test_one_challenge_is_answered_many_times_and_each_time_with_the_next_count():
    sessions = Sessions()
    request = {"method": "GET", "target": "/"}
    assert sessions.authorization("https://a", MUFASA, **request) is None
    assert sessions.remember("https://a", MUFASA, [OFFER.format("SHA-256")])
    values = [sessions.authorization("https://a", MUFASA, **request) for _ in range(3)]
    assert [re.search(r"nc=(\w+)", value)[1] for value in values] == ["00000001", "00000002", "00000003"]
    assert len({re.search(r'cnonce="([^"]+)"', value)[1] for value in values}) == 1
    assert len({response_in(value) for value in values}) == 3


def test_a_challenge_is_that_of_one_origin_and_one_account():
    sessions = Sessions()
    sessions.remember("https://a", MUFASA, [OFFER.format("MD5")])
    others = [("https://b", MUFASA), ("https://a", Digest(username="Mufasa", password="other"))]
    assert not any(sessions.authorization(*other, method="GET", target="/") for other in others)
    assert not sessions.remember("https://a", MUFASA, ["Basic"])
    assert sessions.authorization("https://a", MUFASA, method="GET", target="/") is None


def test_so_many_challenges_are_remembered_and_no_more():
    sessions = Sessions()
    for number in range(MAX_SESSIONS + 1):
        sessions.remember(f"https://{number}", MUFASA, [OFFER.format("MD5")])
    known = [sessions.authorization(f"https://{n}", MUFASA, method="GET", target="/") for n in (0, 1, MAX_SESSIONS)]
    assert [value is not None for value in known] == [False, True, True]
