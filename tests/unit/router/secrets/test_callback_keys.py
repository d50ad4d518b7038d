"""Keys of one-time URLs, and tokens of replies."""

from __future__ import annotations

import os
import re
from base64 import urlsafe_b64decode

import pytest
from support.cases import cases

from flowhook.errors import NotFoundError
from flowhook.security.callback_tokens import KEY_BYTES
from router.secrets.callback_keys import MAX_TOKEN_LENGTH, CallbackKeys, ReplyTokens
from router.storage.encryption import derive_key

KEY = os.urandom(KEY_BYTES)
ID = "evt_01m8746v7wemm95kbphkypt3c6"


def test_every_router_with_the_key_has_the_same_keys_and_each_flow_its_own():
    keys = CallbackKeys(KEY)
    assert keys.of("orders") == CallbackKeys(KEY).of("orders")
    assert len(keys.of("orders")) == KEY_BYTES
    others = [keys.of("order"), CallbackKeys(os.urandom(KEY_BYTES)).of("orders"), KEY]
    assert len({keys.of("orders"), *others}) == 4


def test_a_flow_named_like_an_execution_does_not_make_tokens_of_replies():
    execution_id = "evt_01m8746v7wemm95kbphkypt3c6"
    mac = ReplyTokens(KEY).issue(execution_id).partition(".")[2]
    assert urlsafe_b64decode(mac + "=") != CallbackKeys(KEY).of(execution_id)


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


@cases(
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
