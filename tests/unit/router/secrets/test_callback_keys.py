"""Keys of one-time URLs."""

import os
from base64 import urlsafe_b64decode

from flowhook.security.callback_tokens import KEY_BYTES
from router.secrets.callback_keys import CallbackKeys
from router.secrets.reply_tokens import ReplyTokens

KEY = os.urandom(KEY_BYTES)


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
