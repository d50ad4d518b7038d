"""Notices that the key of secrets, or the tokens, are not those that the data and the other processes are served with.

The key's fingerprint lies beside the data: in the database of the embedded storage, and among the facts of a replicated
log. So a key that was exchanged by mistake, or data that was restored without its key, is noticed when the router
starts, and not when the first flow needs a secret. While the router runs, both files are looked at again.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Final

import attrs
import orjson

from flowhook.errors import ConflictError, InvalidError, UnavailableError
from flowhook.process import logs
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RouterSettings
from flowhook.security.tokens import FILE as TOKENS_FILE
from flowhook.security.tokens import TokenInfo, ensure_tokens, list_tokens
from router.storage.encryption import (
    KEY_FILE,
    SecretCipher,
    derive_key,
    is_key_missing,
    key_fingerprint,
    load_secrets_key,
    read_key,
)
from router.storage.registry import Registry

LOOK_SECONDS: Final = 5.0  # between two looks at the files
# names of fingerprints, and kinds of warnings
KEY: Final = "secrets_key"
TOKENS: Final = "tokens"
DESCRIPTORS: Final = "descriptors"  # the kind of a warning
log = logs.get_logger(__name__)


def tokens_fingerprint(key: bytes, tokens: Sequence[TokenInfo]) -> str:
    """Return 16 hex digits by which two sets of tokens are told apart; without the key they reveal nothing."""
    rows = [
        (each.name, sorted(each.scopes), each.sha256, sorted(each.flows), each.expires, [*map(astuple, each.earlier)])
        for each in sorted(tokens, key=lambda each: each.name)
    ]
    derived = derive_key(key, b"flowhook: fingerprint of the tokens")
    return hmac.digest(derived, orjson.dumps(rows), "sha256")[:8].hex()


async def load_credentials(settings: RouterSettings, registry: Registry) -> bytes:
    """Return the key that the secrets of the embedded storage are sealed with; create the tokens if there are none.

    The key is a new one if there is none and there are no secrets, or if they are to be discarded (`discard_secrets`).

    Raises:
        ConflictError: the key is not the one that the data was served with (`SECRETS_KEY_DIFFERS`), or it can't be
            loaded; see `encryption.load_secrets_key`.
        InvalidError: the setting is not a key (`SECRETS_KEY_INVALID`), or the tokens can't be used.
    """
    created = await asyncio.to_thread(ensure_tokens, settings.data_dir)
    secrets = await registry.list_secrets()
    known = await registry.fingerprint(KEY)
    missing = is_key_missing(settings.data_dir, settings.secrets_key)
    sealed = 0 if settings.discard_secrets else len(secrets)
    key = load_secrets_key(settings.data_dir, settings.secrets_key, sealed=sealed)
    fingerprint = key_fingerprint(key)
    fits = fingerprint == known if known else await _opens(key, registry)
    differs = bool(known or secrets) if missing else not fits
    if differs and not missing and not settings.discard_secrets:
        raise ConflictError(
            f"the key of secrets (FLOWHOOK_SECRETS_KEY, or {settings.data_dir / KEY_FILE}) is not the one that this"
            f" database was served with, and opens none of its {len(secrets)} secrets: restore the key from its backup;"
            " or start the router once with --discard-secrets (FLOWHOOK_DISCARD_SECRETS=true), which deletes them and"
            " goes on with this key",
            reason="SECRETS_KEY_DIFFERS",
        )
    if differs:
        await asyncio.gather(*(registry.delete_secret(secret.name) for secret in secrets))
        log.warning(
            "the key of secrets has changed: the secrets are discarded, and one-time URLs and links of replies that"
            " were given out before are invalid",
            discarded=len(secrets),
        )
    if fingerprint != known:
        await registry.set_fingerprint(KEY, fingerprint)
    await _note_tokens(settings, registry, key, created=created, comparable=fingerprint == known)
    return key


async def _note_tokens(
    settings: RouterSettings, registry: Registry, key: bytes, *, created: bool, comparable: bool
) -> None:
    """Log that the tokens are not those that the data was served with last.

    `created`: just now, for want of any. `comparable`: the last fingerprint was made with the same key.
    """
    fingerprint = tokens_fingerprint(key, await asyncio.to_thread(list_tokens, settings.data_dir))
    known = await registry.fingerprint(TOKENS)
    if fingerprint == known:
        return
    if known and created:
        log.warning(
            "tokens.json was missing, and all tokens are new: edges, runners, admin and services that have earlier ones"
            " are refused; restore it from its backup, or give them the new ones",
            directory=str(settings.data_dir),
        )
    elif known and comparable:
        log.info("the tokens were changed since the data was served last")
    await registry.set_fingerprint(TOKENS, fingerprint)


async def _opens(key: bytes, registry: Registry) -> bool:
    """Whether a key opens the secrets of data that has no fingerprint of its key."""
    sealed = await registry.get_secrets([secret.name for secret in (await registry.list_secrets())[:1]])
    try:
        for name, value in sealed.items():
            SecretCipher(key).open(name, value)
    except ConflictError as error:
        return error.reason != "SECRET_NOT_DECRYPTABLE"
    return True


@attrs.define(eq=False, repr=False)
class CredentialWatch:
    """Looks at the key of secrets and at the tokens while the router runs, and says what changed.

    The router goes on with the key that it started with; tokens are read anew with each change.

    It looks every `seconds`; `changed` is called with the fingerprint of the tokens when there is a different one.
    """

    _settings: RouterSettings
    _process_state: ProcessState
    _key: bytes
    _changed: Callable[[str], None] = attrs.field(default=lambda _fingerprint: None, kw_only=True)
    _seconds: float = attrs.field(default=LOOK_SECONDS, kw_only=True)
    _tokens: dict[str, TokenInfo] | None = attrs.field(init=False, default=None)

    async def run(self) -> None:
        while True:
            try:
                key_problem, tokens_problem, tokens = await asyncio.to_thread(self._read)
            except UnavailableError as error:  # which says nothing about the files
                self._tell(DESCRIPTORS, error.message)
            else:
                self._tell(DESCRIPTORS, "")
                self._tell(KEY, key_problem)
                self._tell(TOKENS, tokens_problem)
                if not tokens_problem:
                    self._compare({each.name: each for each in tokens})
            await asyncio.sleep(self._seconds)

    def _read(self) -> tuple[str, str, list[TokenInfo]]:
        """Return what is wrong with the files of the key and of the tokens, and the tokens. Blocks.

        Raises:
            UnavailableError: they can't be opened now (`DESCRIPTORS_USED_UP`).
        """
        directory, tokens = self._settings.data_dir, list[TokenInfo]()
        try:
            tokens = list_tokens(directory)
            lack = "" if tokens else f"{directory / TOKENS_FILE} is missing, so every call is refused: restore it"
        except InvalidError as error:
            lack = f"{error.message}; every call is refused"
        return self._key_problem(directory / KEY_FILE), lack, tokens

    def _key_problem(self, path: Path) -> str:
        if self._settings.secrets_key is not None:
            return ""
        try:
            problem = "" if read_key(path) == self._key else f"{path} is not the key that this router runs with"
        except ConflictError as error:
            problem = error.message
        except OSError as error:
            problem = f"{path}: {os.strerror(error.errno or 0)}"
        return problem and f"{problem}; restore it, or this router does not start again"

    def _tell(self, kind: str, problem: str) -> None:
        known = self._process_state.warn(kind, problem)
        if problem not in ("", known):
            log.error("a file of this router can't be used", problem=problem)
        elif known and not problem:
            log.info("the files of this router are in order again", kind=kind)

    def _compare(self, tokens: dict[str, TokenInfo]) -> None:
        if tokens == self._tokens:
            return
        if self._tokens is not None:
            known = self._tokens
            log.info(
                "tokens changed",
                created=sorted(tokens.keys() - known.keys()),
                revoked=sorted(known.keys() - tokens.keys()),
                changed=sorted(name for name in tokens.keys() & known.keys() if tokens[name] != known[name]),
            )
        self._tokens = tokens
        self._changed(tokens_fingerprint(self._key, list(tokens.values())))
