"""Tokens of one-time URLs."""

import base64
import hashlib
import hmac
import re

import pytest
from support.cases import cases

from flowhook.errors import NotFoundError
from flowhook.security.callback_tokens import KEY_BYTES, MAX_LENGTH, contains, issue, mask, verify

KEY = bytes(range(KEY_BYTES))
ID = "evt_01m8746v7wemm95kbphkypt3c6"


def test_a_token_is_what_a_runner_and_a_router_make_of_the_same_key():
    mac = hmac.new(KEY, f"{ID}|approval|3".encode(), hashlib.sha256).digest()
    token = issue(KEY, ID, "approval", 3)
    assert token == f"{ID[4:]}.3.{base64.urlsafe_b64encode(mac).decode()[:43]}"
    assert re.fullmatch(r"[a-z0-9]{26}\.3\.[A-Za-z0-9_-]{43}", token)
    assert verify(KEY, "approval", token) == ID


def test_each_use_execution_callback_and_flow_has_a_token_of_its_own():
    tokens = {
        issue(key, execution_id, name, number)
        for key in (KEY, KEY[::-1])
        for execution_id in (ID, ID[:-1] + "7")
        for name in ("approval", "refusal")
        for number in (0, 1, 10)
    }
    assert len(tokens) == 24
    assert max(map(len, tokens)) <= MAX_LENGTH


@cases(
    "change",
    [
        lambda token: "",
        lambda token: ID,
        lambda token: f"{ID[4:]}.3.",
        lambda token: f"{ID}.3.{token.rpartition('.')[2]}",
        lambda token: token.replace(".3.", ".4."),
        lambda token: token.replace(".3.", ".03."),
        lambda token: token.replace(".3.", ".٣."),
        lambda token: token.replace(".3.", ".²."),
        lambda token: token.replace(".3.", "."),
        lambda token: token[:-1],
        lambda token: token + "A",
        lambda token: token + "." * 100,
        lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
        lambda token: token.replace(ID[4:], ID[4:-1] + "7"),
        lambda token: token.replace(ID[4:], "évt"),
        lambda token: token.upper(),
        lambda token: issue(KEY[::-1], ID, "approval", 3),
        lambda token: issue(KEY, ID, "refusal", 3),
    ],
)
def test_any_other_token_is_none(change):
    with pytest.raises(NotFoundError) as caught:
        verify(KEY, "approval", change(issue(KEY, ID, "approval", 3)))
    assert caught.value.reason == "CALLBACK_NOT_FOUND"


@cases("around", ["{}", "/hook/f/approval/{}?x", '"\\n{}"', "x{}y", "{} {}", "{}{}", "é{}é"])
def test_tokens_are_masked_whatever_stands_around_them(around):
    token = issue(KEY, ID, "approval", 3)
    text = around.replace("{}", token)
    assert contains(text.encode())
    assert mask(text) == around.replace("{}", "•••")
    assert mask(text, "*") == around.replace("{}", "*" * len(token))


@cases("text", ["", ID, "a" * 100, "." * 100, f"{ID[4:]}.3.", f"{ID[4:]}.3.{'A' * 42}", "1.2.3"])
def test_what_is_no_token_stays_as_it_is(text):
    assert not contains(text.encode())
    assert mask(text) == mask(text, "*") == text
