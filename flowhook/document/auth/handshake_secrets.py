"""Finds secrets that are shared with a kind whose handshake signs text chosen by others.

The signature of such a text is also valid for an event with that text as its body, at any URL where another kind
verifies by the same secret. So no other kind may use a secret of such a kind, in any flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from flowhook.document.auth.base import AuthKind
from flowhook.providers import PROVIDERS

SIGNING: Final = frozenset(row.name for row in PROVIDERS.values() if row.handshake is not None and row.handshake.signs)
"""Kinds that sign text from a request: for `x`, from anybody; for `zoom`, from a request that is itself signed."""


class SecretMisuse(NamedTuple):
    """A secret of two kinds, one of which signs text chosen by others."""

    secret: str
    one: str
    other: str

    @property
    def signing(self) -> str:
        """The kind that signs."""
        return self.one if self.one in SIGNING else self.other


def kinds_by_secret(kinds: Iterable[AuthKind]) -> dict[str, set[str]]:
    """Return the names of the kinds that use each secret, by its name."""
    found: dict[str, set[str]] = {}
    for kind in kinds:
        for name in kind.secret_names:
            found.setdefault(name, set()).add(kind.kind)
    return found


def secret_misuses(one: Mapping[str, set[str]], other: Mapping[str, set[str]]) -> Iterator[SecretMisuse]:
    """Yield the misuses between two results of `kinds_by_secret`."""
    for name in sorted(one.keys() & other.keys()):
        for mine in sorted(one[name]):
            for theirs in sorted(other[name]):
                if mine != theirs and SIGNING & {mine, theirs}:
                    yield SecretMisuse(name, mine, theirs)
