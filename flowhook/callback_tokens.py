"""Tokens of one-time URLs: whoever shows one may make the callback that it was made for, once.

A token names the execution and how many callbacks of that name it had by one-time URLs before, so that a fresh one
follows each use; a MAC under the flow's key makes it impossible to guess. Nothing is stored for it until it is used.

Source: RFC 2104 (HMAC); what is to be guessed has 256 bits.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

from flowhook import ids
from flowhook.errors import NotFoundError

KEY_BYTES: Final = 32
MAX_LENGTH: Final = 128


def issue(key: bytes, execution_id: str, callback: str, number: int) -> str:
    """Return the token of a one-time URL: URL-safe, at most `MAX_LENGTH` characters.

    Args:
        key: of the flow, `KEY_BYTES` long.
        execution_id: the execution that the callback is for.
        callback: its name.
        number: how many callbacks of that name came to it by one-time URLs before; 0 or more.
    """
    digest = hmac.digest(key, f"{execution_id}|{callback}|{number}".encode(), hashlib.sha256)
    mac = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return f"{execution_id.removeprefix(ids.PREFIX)}.{number}.{mac}"


def execution_of(key: bytes, callback: str, token: str) -> str:
    """Return the ID of the execution that a token is for.

    Raises:
        NotFoundError: it is none of this callback of this flow (`CALLBACK_NOT_FOUND`).
    """
    execution, _, rest = token.partition(".")
    number = rest.partition(".")[0]
    if len(token) <= MAX_LENGTH and number.isascii() and number.isdecimal():
        execution_id = f"{ids.PREFIX}{execution}"
        expected = issue(key, execution_id, callback, int(number))
        if hmac.compare_digest(token.encode(), expected.encode()):
            return execution_id
    raise NotFoundError("there is no such callback", reason="CALLBACK_NOT_FOUND")
