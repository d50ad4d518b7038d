"""Keys of what routers store on the servers of the log and send over them: nobody else can make or read it.

All are derived from the key of secrets, which the servers do not have: one for each purpose and context, so that
nothing that was made for one can be used for another. Where several keys are given, the first one is used for all that
is new, and every one for what is read: so the key of secrets can be replaced while routers run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from router.storage.encryption import derive_key

KEY_ID_BYTES: Final = 4
_PREFIX: Final = b"flowhook cluster: "


@dataclass(frozen=True, slots=True)
class PurposeKeys:
    """Keys for one purpose.

    Attributes:
        newest: ID of the one that is used for what is new.
        by_id: all of them, 32 bytes each.
    """

    newest: bytes
    by_id: Mapping[bytes, bytes]


class ClusterKeys:
    """Keys of the routers that share a log.

    Args:
        secrets_keys: keys of secrets, 32 bytes each, as `encryption.load_secrets_key` returns them; newest first.
    """

    def __init__(self, *secrets_keys: bytes) -> None:
        self._keys = {derive_key(key, _PREFIX + b"key ID")[:KEY_ID_BYTES]: key for key in secrets_keys}

    @property
    def ids(self) -> frozenset[bytes]:
        """IDs of the keys."""
        return frozenset(self._keys)

    def derive(self, purpose: str, context: str) -> PurposeKeys:
        """Return the keys for a purpose, in one context; each purpose has a name of its own.

        Args:
            purpose: such as `records`.
            context: what else has to agree, such as the identity of a log.
        """
        label = _PREFIX + f"{purpose}\0{context}".encode()
        return PurposeKeys(next(iter(self._keys)), {each: derive_key(key, label) for each, key in self._keys.items()})
