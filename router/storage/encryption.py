"""Encryption of secrets at rest: AES-256-GCM under one key, from a file in the data directory or from the settings.

A sealed secret is a version byte (1), a nonce (12 bytes) and the ciphertext with its tag (16 bytes). Version and name
are authenticated as well, so that write access to the database does not allow swapping one secret for another.

Source: NIST SP 800-38D; RFC 5116, section 5.2. A random 96-bit nonce is good for 2^32 secrets under one key.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import hmac
import os
import secrets
import stat
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from flowhook.errors import ConflictError, InvalidError
from flowhook.security.private_files import check_descriptors, make_directory, open_private

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
KEY_FILE: Final = "secrets.key"
_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_CONTEXT: Final = b"flowhook secret\x00"


class SecretCipher:
    """Encrypts and decrypts secrets; `key`: 32 bytes, as `load_secrets_key` returns them."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, name: str, value: bytes) -> bytes:
        """Return `value` encrypted; only `open` with the same name and key decrypts it."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, value, _associated_data(name))

    def open(self, name: str, sealed: bytes) -> bytes:
        """Return the decrypted value of a secret that was sealed under a name.

        Raises:
            ConflictError: it was sealed with another key or under another name (`SECRET_NOT_DECRYPTABLE`), or by a
                later version (`SECRET_FORMAT_TOO_NEW`).
        """
        if sealed[:1] > _VERSION:
            raise ConflictError(
                f"the secret {name} was encrypted by a later version of Flowhook: use that version",
                reason="SECRET_FORMAT_TOO_NEW",
            )
        nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see `_cipher`

        # One error for all causes, raised outside the handler: a chained exception would hold the cipher's arguments.
        try:
            if sealed[:1] == _VERSION and len(ciphertext) >= _TAG_BYTES:
                return self._cipher.decrypt(nonce, ciphertext, _associated_data(name))
        except InvalidTag:
            pass
        raise ConflictError(
            f"the secret {name} can't be decrypted: the key is not the one it was sealed with"
            f" (FLOWHOOK_SECRETS_KEY, or {KEY_FILE} in the data directory), or it was tampered with",
            reason="SECRET_NOT_DECRYPTABLE",
        )

    @cached_property
    def _cipher(self) -> AESGCM:
        """Return the cipher. Imports `cryptography` on first use (7 ms, 2 MiB), because there may be no secrets."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - see above

        return AESGCM(self._key)


def derive_key(key: bytes, purpose: bytes) -> bytes:
    """Derive a key of 32 bytes for one purpose; it reveals neither `key` nor the keys for other purposes.

    `purpose` is a label of the use of the derived key; fixed, and unique for each use.

    Source: RFC 5869 (HKDF with SHA-256, of which one block is enough: section 2); without salt, because the key is
    uniformly random (section 3.1).
    """
    extracted = hmac.digest(bytes(KEY_BYTES), key, "sha256")
    return hmac.digest(extracted, purpose + b"\x01", "sha256")


def key_fingerprint(key: bytes) -> str:
    """Return 16 hex digits by which two keys are told apart; they reveal nothing of the key. `key`: as above."""
    return derive_key(key, b"flowhook cluster: check of the key")[:8].hex()


def is_key_missing(data_dir: Path, setting: SecretStr | None = None) -> bool:
    """Return whether `load_secrets_key` would create a key. Blocks."""
    return setting is None and not os.path.lexists(data_dir / KEY_FILE)


def load_secrets_key(data_dir: Path, setting: SecretStr | None = None, *, sealed: int = 0) -> bytes:
    """Return the key that secrets are sealed with. Blocks.

    `data_dir` has the key file; both are created when missing (0700 and 0600). `setting` is the key in base64; the file
    is then ignored. If secrets are stored already (`sealed`), no key is created.

    Raises:
        InvalidError: the setting is not 32 bytes in base64 (`SECRETS_KEY_INVALID`).
        ConflictError: there are secrets but no key (`SECRETS_KEY_MISSING`), or the file can't be used: it is damaged
            (`SECRETS_KEY_INVALID`), others can read it (`SECRETS_KEY_EXPOSED`), or it can't be read or created
            (`SECRETS_KEY_UNREADABLE`).
        UnavailableError: no file can be opened now (`DESCRIPTORS_USED_UP`).
    """
    if setting is not None:
        key = _decode(setting.get_secret_value())
        if key is None:
            raise InvalidError("FLOWHOOK_SECRETS_KEY must be 32 bytes in base64", reason="SECRETS_KEY_INVALID")
        return key
    path = data_dir / KEY_FILE
    if sealed and is_key_missing(data_dir):
        raise ConflictError(
            f"{path} is missing, and the {sealed} secrets in the database are encrypted with it: restore it, or"
            " FLOWHOOK_SECRETS_KEY, from its backup; or start the router once with --discard-secrets"
            " (FLOWHOOK_DISCARD_SECRETS=true), which deletes them and makes a new key",
            reason="SECRETS_KEY_MISSING",
        )
    try:
        make_directory(data_dir)
        with contextlib.suppress(FileExistsError):
            _make(path)
        return read_key(path)
    except OSError as error:
        cause = errno.errorcode.get(error.errno or 0, "unknown error")
        raise ConflictError(f"{path} can't be read or created: {cause}", reason="SECRETS_KEY_UNREADABLE") from error


def require_secrets_key(data_dir: Path, setting: SecretStr | None = None) -> bytes:
    """Return the key that all routers of a replicated log have; it is never created here.

    Blocks, and raises as `load_secrets_key` does: also ConflictError if it is missing (`SECRETS_KEY_MISSING`).
    """
    if is_key_missing(data_dir, setting):
        raise ConflictError(
            f"{data_dir / KEY_FILE} is missing: all routers of a replicated log need the same key. Copy it"
            " from another router, or set FLOWHOOK_SECRETS_KEY; for the first one, make it with"
            f" 'openssl rand -base64 32 > {KEY_FILE}' and chmod 600",
            reason="SECRETS_KEY_MISSING",
        )
    return load_secrets_key(data_dir, setting)


def check_key_stored(data_dir: Path, setting: SecretStr | None, key: bytes) -> None:
    """Raise ConflictError (`SECRETS_KEY_MISSING`) if the next start would not find the key that is in use. Blocks.

    UnavailableError: that can't be told now (`DESCRIPTORS_USED_UP`).
    """
    if setting is not None:
        return
    path = data_dir / KEY_FILE
    try:
        problem = "" if read_key(path) == key else f"{path} is not the key that this router runs with"
    except ConflictError as error:
        problem = error.message
    except OSError as error:
        problem = f"{path}: {os.strerror(error.errno or 0)}"
    if problem:
        raise ConflictError(f"{problem}; what is set now would be lost: restore it first", reason="SECRETS_KEY_MISSING")


def _make(path: Path) -> None:
    if path.exists():
        return
    # Written under a temporary name and then linked: the file is never visible half-written, and of two processes that
    # create it at the same time only one succeeds.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(open_private(temporary, os.O_WRONLY | os.O_EXCL), "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(temporary)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_key(path: Path) -> bytes:
    """Return the key in a file. Blocks. Raises as `load_secrets_key` does, or OSError."""
    try:
        opened = path.open("rb")
    except OSError as error:
        check_descriptors(error)
        raise
    with opened as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise ConflictError(f"{path} can be read by others: chmod 600 it", reason="SECRETS_KEY_EXPOSED")
        key = _decode(file.read(4096).decode("ascii", "replace"))
    if key is None:
        raise ConflictError(
            f"{path} is damaged: restore it, or remove it and set all secrets again", reason="SECRETS_KEY_INVALID"
        )
    return key


def _decode(text: str) -> bytes | None:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


def _associated_data(name: str) -> bytes:
    return _CONTEXT + _VERSION + name.encode()
