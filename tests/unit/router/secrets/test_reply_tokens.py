"""Tokens that answers are fetched with."""

import os
import re

import pytest

from flowhook.errors import NotFoundError
from router.secrets.encryption import KEY_BYTES, derive_key
from router.secrets.reply_tokens import MAX_TOKEN_LENGTH, ReplyTokens

KEY = os.urandom(KEY_BYTES)
ID = "evt_01m8746v7wemm95kbphkypt3c6"


def test_every_router_with_the_key_knows_the_token():
    token = ReplyTokens(KEY).issue(ID)
    assert ReplyTokens(KEY).execution_of(token) == ID
    assert len(token) <= MAX_TOKEN_LENGTH
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", token)


def test_the_part_that_is_to_be_guessed_has_256_bits_and_does_not_show_the_key():
    first, second = (ReplyTokens(KEY).issue(ID[:-1] + last).partition(".")[2] for last in "67")
    assert first != second
    assert len(first) == 43
    assert derive_key(KEY, b"a") != derive_key(KEY, b"b") != KEY


@pytest.mark.parametrize(
    "change",
    [
        lambda token: "",
        lambda token: ID,
        lambda token: ID + ".",
        lambda token: token[:-1],
        lambda token: token + "A",
        lambda token: token + "." * 100,
        lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
        lambda token: token.replace(ID, ID[:-1] + "7"),
        lambda token: token.replace(ID, "évt"),
        lambda token: ReplyTokens(os.urandom(KEY_BYTES)).issue(ID),
    ],
)
def test_any_other_token_is_none(change):
    tokens = ReplyTokens(KEY)
    with pytest.raises(NotFoundError) as caught:
        tokens.execution_of(change(tokens.issue(ID)))
    assert caught.value.reason == "REPLY_NOT_FOUND"
