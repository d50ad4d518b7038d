"""The keys that tokens of one-time URLs are made with (see `flowhook.callback_tokens`): one for each flow.

Runners get those of the flows that they run, so that a flow can tell others where to call back without asking a router.
All routers that share the key of the secrets have the same ones, before and after a restart.

Source: RFC 2104 (HMAC), as a pseudorandom function of the flow's ID.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from router.sealing import derive_key

_PURPOSE: Final = b"flowhook callback tokens v1"


class CallbackKeys:
    """Gives the key of a flow.

    Args:
        key: 32 bytes, as `sealing.load_key` returns them; it is not kept.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = derive_key(key, _PURPOSE)

    def of(self, flow_id: str) -> bytes:
        """Return a flow's key, `callback_tokens.KEY_BYTES` long."""
        return hmac.digest(self._key, flow_id.encode(), hashlib.sha256)
