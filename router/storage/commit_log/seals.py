"""Seals what routers store on the servers of the log: records, chunks of objects, facts; and derives the keys for it.

All keys are derived from the key of secrets, which the servers do not have: one for each purpose and context, so that
nothing that was made for one can be used for another. Where several keys are given, the first one is used for all that
is new, and every one for what is read: so the key of secrets can be replaced while routers run.
"""

from __future__ import annotations

import hmac
import secrets
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from flowhook.errors import ConflictError
from router.storage.commit_log.interface import LogRecord
from router.storage.encryption import derive_key

KEY_ID_BYTES: Final = 4
_PREFIX: Final = b"flowhook cluster: "


@dataclass(frozen=True, slots=True)
class PurposeKeys:
    """Keys for one purpose."""

    newest: bytes
    """ID of the one that is used for what is new."""
    by_id: Mapping[bytes, bytes]
    """All of them, 32 bytes each."""


class ClusterKeys:
    """Keys of the routers that share a log, made of keys of secrets (see `load_secrets_key`), the newest first."""

    def __init__(self, *secrets_keys: bytes) -> None:
        self._keys = {derive_key(key, _PREFIX + b"key ID")[:KEY_ID_BYTES]: key for key in secrets_keys}

    def derive(self, purpose: str, context: str) -> PurposeKeys:
        """Return the keys for a purpose, such as `records`.

        `context` is what else has to agree, such as the identity of a log.
        """
        label = _PREFIX + f"{purpose}\0{context}".encode()
        return PurposeKeys(next(iter(self._keys)), {each: derive_key(key, label) for each, key in self._keys.items()})


FORMAT: Final = 2
"""First byte of a sealed message."""
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
RANDOM_BYTES: Final = 4
TAG_BYTES: Final = 16
_HEADER: Final = struct.Struct(f">B{KEY_ID_BYTES}s{SALT_BYTES}s{NONCE_BYTES}s")
OVERHEAD_BYTES: Final = _HEADER.size + TAG_BYTES  # by which a sealed message is longer


class NotAuthenticError(Exception):
    """A message was not sealed for this place by anybody who has a key."""


class Sealer:
    """Seals and opens messages for one purpose by AES-256-GCM; may be used by any thread.

    A sealed message is a header (format, key ID, salt, nonce), the ciphertext, and its tag. What the reader knows
    anyway, such as the position of a record, is authenticated as *associated data*: at any other place a message does
    not open.

    GCM breaks if a nonce is used twice under one key, and several routers write under one key of secrets, crash, and
    begin again. Random nonces of 96 bits would be good for 2^32 messages only, and counters would have to be stored. So
    each message has a key of its own, derived from a random salt of 128 bits: two have the same one with a probability
    of 2^-33 after 2^48 messages. A virtual machine that is copied or restored with its memory while a router runs draws
    other salts than before only once its kernel has noticed (at once with a generation ID, else within minutes). Until
    then the nonce, which is the time in nanoseconds with 32 random bits, tells the copies' messages apart.

    AES-256-GCM costs a quarter of ChaCha20-Poly1305 where the processor has instructions for it, as those of servers
    have (docs/replication.md has figures).

    Source: NIST SP 800-38D, section 8.2.1; RFC 5869; the derived keys are those of XAES-256-GCM (C2SP) in spirit.
    """

    def __init__(self, keys: PurposeKeys) -> None:
        self._keys = keys

    def seal(self, message: bytes, associated: bytes) -> bytes:
        """Return a message sealed, `OVERHEAD_BYTES` longer."""
        salt = secrets.token_bytes(SALT_BYTES)
        nonce = secrets.token_bytes(RANDOM_BYTES) + time.time_ns().to_bytes(NONCE_BYTES - RANDOM_BYTES, "big")
        header = _HEADER.pack(FORMAT, self._keys.newest, salt, nonce)
        return header + _derived(self._keys.by_id[self._keys.newest], salt).encrypt(nonce, message, header + associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Return the message; raises NotAuthenticError if nobody with a key sealed it with these associated data."""
        if len(sealed) < OVERHEAD_BYTES:
            raise NotAuthenticError("it is not sealed")
        header = sealed[: _HEADER.size]
        version, key_id, salt, nonce = _HEADER.unpack(header)
        key = self._keys.by_id.get(key_id)
        if version != FORMAT or key is None:
            raise NotAuthenticError("it is not sealed" if version != FORMAT else "it is sealed with an unknown key")
        try:
            return _derived(key, salt).decrypt(nonce, sealed[_HEADER.size :], header + associated)
        except InvalidTag:
            raise NotAuthenticError("it does not open") from None


def _derived(key: bytes, salt: bytes) -> AESGCM:
    """Return the cipher of a message. Source: RFC 5869, section 2.3, of which one block is enough."""
    return AESGCM(hmac.digest(key, b"sealer" + salt + b"\x01", "sha256"))


RECORD_CODE_BYTES: Final = 16


class RecordSeals:
    """Converts the records of a log to messages of its servers, and back: each is sealed for its position.

    A record is sealed with the identity of the log, its position and its batch ID, so that it opens nowhere else: a
    record that was recorded and is sent again is as void as one that was made up. The epoch and the hash of the record
    before are in the content.

    The message ID by which servers look for duplicates has a code of its own. It can't be guessed: a server would
    answer to a record whose ID it knows already as if it had stored it. And it tells a record that was damaged from one
    that was made up: both parts would have to be damaged. Who sees a record on its way can copy its ID, but to that
    position alone.
    """

    def __init__(self, keys: ClusterKeys, log: str) -> None:
        context = f"0\0{log}"  # of the only shard
        self._sealer = Sealer(keys.derive("records", context))
        self._codes = keys.derive("record IDs", context)

    def seal(self, position: int, batch_id: str, data: bytes) -> tuple[str, bytes]:
        """Return the message ID and the content of a record that is to get a position."""
        place = _place(position, batch_id)
        code = _record_code(self._codes.by_id[self._codes.newest], place)
        return f"{batch_id}:{code}", self._sealer.seal(data, place)

    def open(self, position: int, message_id: str, content: bytes) -> LogRecord:
        """Return the record of a message that a server has at a position; if it is not authentic, it is void."""
        batch_id, _, code = message_id.rpartition(":")
        place = _place(position, batch_id)
        try:
            return LogRecord(position, batch_id, self._sealer.open(content, place))
        except NotAuthenticError:
            known = [hmac.compare_digest(_record_code(key, place), code) for key in self._codes.by_id.values()]
            return LogRecord(position, batch_id if any(known) else "", b"", void=True, damaged=any(known))


def _place(position: int, batch_id: str) -> bytes:
    return f"{position}\0{batch_id}".encode("utf-8", "replace")


def _record_code(key: bytes, place: bytes) -> str:
    return hmac.digest(key, place, "sha256")[:RECORD_CODE_BYTES].hex()


class ChunkPlace(NamedTuple):
    """Where a chunk belongs."""

    name: str  # of the object
    transfer: str  # random identity of the transfer that stored it
    chunks: int  # number of its chunks, from 1
    number: int  # of this one, from 0


class ObjectSeals:
    """Converts the chunks of objects to what is stored, and back: each for its object, transfer, place and number.

    So chunks that are swapped, left out, added, or taken from another object or another transfer of the same one don't
    open. An object has one chunk at least, or an empty one could take the place of any.
    """

    def __init__(self, keys: PurposeKeys) -> None:
        self._sealer = Sealer(keys)

    def seal(self, place: ChunkPlace, chunk: bytes) -> bytes:
        return self._sealer.seal(chunk, _associated(place))

    def open(self, place: ChunkPlace, stored: bytes) -> bytes:
        """Return a chunk; raises NotAuthenticError if it is not what a router has stored there."""
        return self._sealer.open(stored, _associated(place))


def _associated(place: ChunkPlace) -> bytes:
    return "\0".join(map(str, place)).encode()


FACT_CODE_BYTES: Final = 16
FORGED: Final = "LOG_FACT_FORGED"


@attrs.define(eq=False, repr=False)
class FactSeals:
    """Authenticates facts: small values on which routers agree, which anybody can read, and only routers can write.

    A stored fact is its value, a key ID and a code, separated by blanks. An older one that is stored again is
    authentic: so facts name nothing that an older value of it would let happen.
    """

    _keys: PurposeKeys

    def seal(self, name: str, value: str) -> str:
        return f"{value} {self._keys.newest.hex()} {_fact_code(self._keys.by_id[self._keys.newest], name, value)}"

    def open(self, name: str, stored: str) -> str:
        """Return the value of what is stored.

        Raises:
            ConflictError: it was not stored by a router with this key (`SECRETS_KEY_DIFFERS`, `LOG_FACT_FORGED`).
        """
        value, key_id, code = (*stored.split(" "), "", "")[:3]
        key = {each.hex(): key for each, key in self._keys.by_id.items()}.get(key_id)
        if key is None and key_id:
            raise ConflictError(
                "the key of secrets is not that of the other routers: copy secrets.key, or set FLOWHOOK_SECRETS_KEY, so"
                " that all have the same",
                reason="SECRETS_KEY_DIFFERS",
            )
        if key is None or not hmac.compare_digest(_fact_code(key, name, value).encode(), code.encode()):
            raise ConflictError(
                f"the fact {name} beside the log was changed by somebody who has no key: find out who can write to the"
                " servers of the log; once it is removed there, a router that has its view stores it again",
                reason=FORGED,
            )
        return value


def _fact_code(key: bytes, name: str, value: str) -> str:
    return hmac.digest(key, f"{name}\0{value}".encode(), "sha256")[:FACT_CODE_BYTES].hex()
