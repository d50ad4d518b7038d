"""Keys and tokens that are derived from the secrets key, by which HTTP callers reach one execution.

All routers that share the secrets key derive the same ones, before and after a restart.

Source: RFC 2104 (HMAC), as a pseudorandom function.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

import attrs

from flowhook.errors import NotFoundError
from router.storage.encryption import derive_key

MAX_TOKEN_LENGTH: Final = 128


@attrs.define(eq=False, repr=False)
class CallbackKeys:
    """Derives the key of each flow that signs the tokens of its one-time URLs (`flowhook.security.callback_tokens`).

    Runners receive the keys of the flows that they run, so that a flow can issue callback URLs without asking a router.
    """

    _key: bytes

    def __attrs_post_init__(self) -> None:
        self._key = derive_key(self._key, b"flowhook callback tokens v1")

    def of(self, flow_id: str) -> bytes:
        """Return a flow's key, `callback_tokens.KEY_BYTES` long."""
        return hmac.digest(self._key, flow_id.encode(), hashlib.sha256)


@attrs.define(eq=False, repr=False)
class ReplyTokens:
    """Tokens with which a caller fetches the reply of an execution later: the execution's ID and a MAC made by routers.

    Nothing is stored for a token. Changing the secrets key invalidates all issued tokens. The compared digest has 256
    bits.
    """

    _key: bytes

    def __attrs_post_init__(self) -> None:
        self._key = derive_key(self._key, b"flowhook reply tokens v1")

    def issue(self, execution_id: str) -> str:
        """Return the token for an execution: URL-safe, at most `MAX_TOKEN_LENGTH` characters."""
        digest = hmac.digest(self._key, execution_id.encode(), hashlib.sha256)
        return f"{execution_id}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"

    def execution_of(self, token: str) -> str:
        execution_id, _, _ = token.partition(".")
        if len(token) <= MAX_TOKEN_LENGTH and hmac.compare_digest(token.encode(), self.issue(execution_id).encode()):
            return execution_id
        raise reply_not_found()


def reply_not_found() -> NotFoundError:
    """Return the error for an invalid token, or for an execution past retention: it does not reveal which."""
    return NotFoundError("unknown reply token", reason="REPLY_NOT_FOUND")
