"""Tokens that let whoever was promised an answer fetch it: the execution's ID, and a MAC that only routers can make.

Nothing is stored for a token. All routers that share the key of the secrets make and know the same ones, before and
after a restart; another key makes all that were given out worthless.

Source: RFC 2104 (HMAC); what is compared has 256 bits.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

from flowhook.errors import NotFoundError
from router.sealing import derive_key

MAX_TOKEN_LENGTH: Final = 128
_PURPOSE: Final = b"flowhook reply tokens v1"


class ReplyTokens:
    """Makes tokens and tells which execution one is for.

    Args:
        key: 32 bytes, as `sealing.load_key` returns them; it is not kept.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = derive_key(key, _PURPOSE)

    def issue(self, execution_id: str) -> str:
        """Return the token for an execution: URL-safe, at most `MAX_TOKEN_LENGTH` characters."""
        digest = hmac.digest(self._key, execution_id.encode(), hashlib.sha256)
        return f"{execution_id}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"

    def execution_of(self, token: str) -> str:
        """Return the ID of the execution that a token is for.

        Raises:
            NotFoundError: it is none of ours (`REPLY_NOT_FOUND`).
        """
        execution_id, _, _ = token.partition(".")
        if len(token) <= MAX_TOKEN_LENGTH and hmac.compare_digest(token.encode(), self.issue(execution_id).encode()):
            return execution_id
        raise reply_not_found()


def reply_not_found() -> NotFoundError:
    """Return the error for a token that is wrong, or whose execution is past retention: nobody is told which."""
    return NotFoundError("there is no such reply", reason="REPLY_NOT_FOUND")
