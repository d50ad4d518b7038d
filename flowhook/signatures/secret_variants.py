"""Other readings of a flow's secrets, as operators get them wrong: for diagnoses, never to accept a request."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from flowhook.document.models.credentials import AuthKind
from flowhook.signatures.build import build_verifiers
from flowhook.signatures.types import Verifier

_WHSEC: Final = b"whsec_"
_HEX: Final = re.compile(rb"(?:[0-9A-Fa-f]{2}){8,}")


def _from_base64(secret: bytes) -> bytes:
    try:
        return b64decode(secret.removeprefix(_WHSEC), validate=True)
    except binascii.Error:
        return b""


_READINGS: Final[tuple[tuple[str, Callable[[bytes], bytes]], ...]] = (
    (
        "it passes with the secret without the spaces, line breaks or quotes around it: set it again without them",
        lambda secret: secret.strip(b" \t\r\n\"'"),
    ),
    (
        "it passes with the secret without its prefix whsec_: set the secret again without it",
        lambda secret: secret.removeprefix(_WHSEC),
    ),
    (
        "it passes with the bytes that the secret holds in base64: set `key: {encoding: base64}` beside it",
        _from_base64,
    ),
    (
        "it passes with the bytes that the secret holds in hexadecimal: set `key: {encoding: hex}` beside it",
        lambda secret: bytes.fromhex(secret.decode()) if _HEX.fullmatch(secret) else b"",
    ),
)
"""Explanations for operators, and what each makes of a secret; empty: nothing."""


class SecretVariants:
    """The secrets of one URL, read otherwise. Its repr contains none of them."""

    __slots__ = ("_auth", "_secrets")

    def __init__(self, auth: Sequence[AuthKind], secrets: Mapping[str, bytes]) -> None:
        names = {name for kind in auth for name in kind.secret_names}
        self._auth = auth
        self._secrets = {name: value for name, value in secrets.items() if name in names}

    def __iter__(self) -> Iterator[tuple[str, Sequence[Verifier]]]:
        """Yield an explanation and the verifiers for each reading that differs. Blocks: they are made anew."""
        for hint, read in _READINGS:
            changed = {
                name: other for name, value in self._secrets.items() if (other := read(value)) not in (b"", value)
            }
            if changed:
                yield hint, build_verifiers(self._auth, {**self._secrets, **changed})
