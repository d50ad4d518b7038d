"""Tokens of one-time callback URLs: a token authorizes one callback to one execution, once.

A token contains the ID of the execution and a sequence number: how many callbacks of that name the execution has
received by one-time URLs before. So every use makes the next token a different one. A MAC under the flow's key, of 256
bits, protects tokens against guessing. Nothing is stored for a token until it is used.

Source: RFC 2104 (HMAC).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final

from flowhook.errors import NotFoundError
from flowhook.events import ids

KEY_BYTES: Final = 32
MAX_LENGTH: Final = 128
MASK: Final = "•••"  # what people see in place of a token
_ID_LENGTH: Final = 26
# It begins with a literal, so that the search takes linear time. What stands before the token does not matter: in JSON
# that may be the letter of an escape.
_PATTERN: Final = rf"\.(?<=[0-9a-z]{{{_ID_LENGTH}}}\.)[0-9]{{1,9}}\.[A-Za-z0-9_-]{{43}}"
_TOKEN: Final = re.compile(_PATTERN)
_TOKEN_BYTES: Final = re.compile(_PATTERN.encode())
# The ID may be the end of a token that was masked.
_CUT_TOKEN: Final = re.compile(rb"(?<=[0-9a-z*]{26}\.)[0-9]{1,9}\.[A-Za-z0-9_-]{1,42}\Z")


def issue(key: bytes, execution_id: str, callback: str, number: int) -> str:
    """Return the token of a one-time URL: URL-safe, at most `MAX_LENGTH` characters.

    `key` is the flow's, `KEY_BYTES` long; `number` is how many callbacks of that name the execution has received by
    one-time URLs before.
    """
    digest = hmac.digest(key, f"{execution_id}|{callback}|{number}".encode(), hashlib.sha256)
    mac = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return f"{execution_id.removeprefix(ids.PREFIX)}.{number}.{mac}"


def contains(data: bytes) -> bool:
    """Whether a token stands in UTF-8."""
    return _TOKEN_BYTES.search(data) is not None


def mask(text: str, replacement: str = MASK) -> str:
    """Return a text, or bytes as latin-1, with a replacement (`*`: by character) for each token, usable by anyone."""
    parts: list[str] = []
    position = 0
    for match in _TOKEN.finditer(text):
        start = max(position, match.start() - _ID_LENGTH)
        parts += [text[position:start], replacement * (match.end() - start if replacement == "*" else 1)]
        position = match.end()
    return "".join([*parts, text[position:]]) if parts else text


def mask_end(data: bytes) -> bytes:
    """Return bytes with `*` for a token cut at their end, whose rest is easy to guess; mask whole ones before."""
    match = _CUT_TOKEN.search(data, max(0, len(data) - MAX_LENGTH))
    return data if match is None else data[: match.start()] + b"*" * len(match[0])


def verify(key: bytes, callback: str, token: str) -> str:
    """Return the execution that a token is for; `CALLBACK_NOT_FOUND`: not issued for this callback of this flow."""
    execution, _, rest = token.partition(".")
    number = rest.partition(".")[0]
    if len(token) <= MAX_LENGTH and number.isascii() and number.isdecimal():
        execution_id = f"{ids.PREFIX}{execution}"
        expected = issue(key, execution_id, callback, int(number))
        if hmac.compare_digest(token.encode(), expected.encode()):
            return execution_id
    raise NotFoundError("there is no such callback", reason="CALLBACK_NOT_FOUND")
