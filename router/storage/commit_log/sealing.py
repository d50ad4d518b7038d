"""Authenticated encryption of what is stored on the servers of the log: AES-256-GCM.

A sealed message is a header (format, key ID, salt, nonce), the ciphertext, and its tag. What the reader knows anyway,
such as the position of a record, is authenticated as *associated data*: at any other place a message does not open.

GCM breaks if a nonce is used twice under one key, and several routers write under one key of secrets, crash, and begin
again. Random nonces of 96 bits would be good for 2^32 messages only, and counters would have to be stored. So each
sealer, of which a process has one for each purpose, derives a key of its own from a random salt of 128 bits, and counts
its nonces. Two sealers have the same salt with a probability of 2^-65 after 2^32 of them. The first four bytes of a
nonce are random, too: a virtual machine that is copied while a router runs would count the same numbers twice.

AES-256-GCM costs a quarter of ChaCha20-Poly1305 where the processor has instructions for it, as those of servers have
(docs/replication.md has figures).

Source: NIST SP 800-38D, section 8.2.1; RFC 5869; the derived keys are those of XAES-256-GCM (C2SP) in spirit.
"""

from __future__ import annotations

import hmac
import itertools
import secrets
import struct
from collections import OrderedDict
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from router.storage.commit_log.keys import KEY_ID_BYTES, ClusterKeys, PurposeKeys

FORMAT: Final = 2
"""First byte of a sealed message. Records that were not sealed are protobuf messages, and begin with 8."""
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
RANDOM_BYTES: Final = 4
TAG_BYTES: Final = 16
_HEADER: Final = struct.Struct(f">B{KEY_ID_BYTES}s{SALT_BYTES}s{NONCE_BYTES}s")
OVERHEAD_BYTES: Final = _HEADER.size + TAG_BYTES
"""By which a sealed message is longer."""
MOST_CIPHERS: Final = 64
"""Most derived keys that are retained for reading."""


class NotAuthenticError(Exception):
    """A message was not sealed for this place by anybody who has a key."""


class Sealer:
    """Seals and opens messages for one purpose; may be used by any thread.

    Args:
        keys: for this purpose.
    """

    def __init__(self, keys: PurposeKeys) -> None:
        self._keys = keys
        self._salt = secrets.token_bytes(SALT_BYTES)
        self._cipher = _derived(keys.by_id[keys.newest], self._salt)
        self._counter = itertools.count()
        self._ciphers: OrderedDict[tuple[bytes, bytes], AESGCM] = OrderedDict()

    def seal(self, message: bytes, associated: bytes) -> bytes:
        """Return a message sealed, `OVERHEAD_BYTES` longer."""
        nonce = secrets.token_bytes(RANDOM_BYTES) + next(self._counter).to_bytes(NONCE_BYTES - RANDOM_BYTES, "big")
        header = _HEADER.pack(FORMAT, self._keys.newest, self._salt, nonce)
        return header + self._cipher.encrypt(nonce, message, header + associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Return the message.

        Raises:
            NotAuthenticError: it was not sealed with these associated data, or by somebody without a key.
        """
        if len(sealed) < OVERHEAD_BYTES:
            raise NotAuthenticError("it is not sealed")
        header = sealed[: _HEADER.size]
        version, key_id, salt, nonce = _HEADER.unpack(header)
        key = self._keys.by_id.get(key_id)
        if version != FORMAT or key is None:
            raise NotAuthenticError("it is not sealed" if version != FORMAT else "it is sealed with an unknown key")
        cipher = self._ciphers.pop((key_id, salt), None) or _derived(key, salt)
        try:
            message = cipher.decrypt(nonce, sealed[_HEADER.size :], header + associated)
        except InvalidTag:
            raise NotAuthenticError("it does not open") from None
        self._ciphers[key_id, salt] = cipher  # only of those that opened: an attacker's would displace them
        if len(self._ciphers) > MOST_CIPHERS:
            self._ciphers.popitem(last=False)
        return message


def is_sealed(message: bytes, keys: ClusterKeys) -> bool:
    """Whether the beginning of a message is that of one which was sealed with one of these keys."""
    return message[:1] == bytes([FORMAT]) and message[1 : 1 + KEY_ID_BYTES] in keys.ids


def _derived(key: bytes, salt: bytes) -> AESGCM:
    """Return the cipher of a sealer.

    Source: RFC 5869, section 2.3, of which one block is enough.
    """
    return AESGCM(hmac.digest(key, b"sealer" + salt + b"\x01", "sha256"))
