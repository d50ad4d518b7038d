"""Derives the key of each flow that signs the tokens of its one-time URLs (see `flowhook.security.callback_tokens`).

Runners receive the keys of the flows that they run, so that a flow can issue callback URLs without asking a router. All
routers that share the secrets key derive the same keys, before and after a restart.

Source: RFC 2104 (HMAC), as a pseudorandom function of the flow's ID.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from router.secrets.encryption import derive_key

_PURPOSE: Final = b"flowhook callback tokens v1"


class CallbackKeys:
    """Derives the callback keys of flows.

    Args:
        key: 32 bytes, as `encryption.load_secrets_key` returns them; it is not stored.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = derive_key(key, _PURPOSE)

    def of(self, flow_id: str) -> bytes:
        """Return a flow's key, `callback_tokens.KEY_BYTES` long."""
        return hmac.digest(self._key, flow_id.encode(), hashlib.sha256)
