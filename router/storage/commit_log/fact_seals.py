"""Authenticates facts: small values on which routers agree, which anybody can read, and only routers can write.

A stored fact is its value, a key ID and a code, separated by blanks. An older one that is stored again is authentic: so
facts name nothing that an older value of it would let happen.
"""

from __future__ import annotations

import hmac
from typing import Final, Protocol

from flowhook.errors import ConflictError
from router.storage.commit_log.keys import PurposeKeys

CODE_BYTES: Final = 16
FORGED: Final = "LOG_FACT_FORGED"


class FactSeals(Protocol):
    """Converts values to what is stored, and back."""

    def seal(self, name: str, value: str) -> str:
        """Return what is stored for a value, which has no blanks."""
        ...

    def open(self, name: str, stored: str) -> str:
        """Return the value of what is stored.

        Raises:
            ConflictError: it was not stored by a router with this key (`LOG_NOT_SEALED`, `SECRETS_KEY_DIFFERS`,
                `LOG_FACT_FORGED`).
        """
        ...


class SealedFacts:
    """Facts as routers write and read them; `keys`: for facts, in the context of the cluster."""

    def __init__(self, keys: PurposeKeys) -> None:
        self._keys = keys

    def seal(self, name: str, value: str) -> str:
        """See the protocol."""
        return f"{value} {self._keys.newest.hex()} {_code(self._keys.by_id[self._keys.newest], name, value)}"

    def open(self, name: str, stored: str) -> str:
        """See the protocol."""
        value, key_id, code = (*stored.split(" "), "", "")[:3]
        if not key_id:
            raise ConflictError(
                "the log was made by a version of Flowhook that did not seal it: stop all routers, and run"
                " 'flowhook cluster seal' once",
                reason="LOG_NOT_SEALED",
            )
        key = {each.hex(): key for each, key in self._keys.by_id.items()}.get(key_id)
        if key is None:
            raise ConflictError(
                "the key of secrets is not that of the other routers: copy secrets.key, or set FLOWHOOK_SECRETS_KEY, so"
                " that all have the same",
                reason="SECRETS_KEY_DIFFERS",
            )
        if not hmac.compare_digest(_code(key, name, value).encode(), code.encode()):
            raise ConflictError(
                f"the fact {name} beside the log was changed by somebody who has no key: find out who can write to the"
                " servers of the log; 'flowhook cluster seal' stores it again",
                reason=FORGED,
            )
        return value


class PlainFacts:
    """Facts of a log that an early version made: for reading alone."""

    def seal(self, name: str, value: str) -> str:
        """Refuse: nothing is stored that is not sealed."""
        raise AssertionError(f"{name} is not stored as {value}: facts are sealed")

    def open(self, name: str, stored: str) -> str:
        """See the protocol."""
        del name
        return stored


def _code(key: bytes, name: str, value: str) -> str:
    return hmac.digest(key, f"{name}\0{value}".encode(), "sha256")[:CODE_BYTES].hex()
