"""Kinds whose handshake signs a text that others choose: what such a secret must not be used for besides.

The signature of a text is also one of an event with that text as its body, at any URL that another kind verifies by the
same secret. So a secret of such a kind belongs to it alone, in all flows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from flowhook.document.auth.base import AuthKind

SIGNING: Final = frozenset({"x", "zoom"})
"""X signs what anybody asks for; Zoom asks with a signature of its own."""


class Misuse(NamedTuple):
    """A secret that two kinds verify by, of which one signs what others choose."""

    secret: str
    one: str
    other: str

    @property
    def signing(self) -> str:
        """The kind that signs."""
        return self.one if self.one in SIGNING else self.other


def kinds_by_secret(kinds: Iterable[AuthKind]) -> dict[str, set[str]]:
    """Return the names of the kinds that verify by each secret."""
    found: dict[str, set[str]] = {}
    for kind in kinds:
        for name in kind.secret_names:
            found.setdefault(name, set()).add(kind.kind)
    return found


def misuses(one: Mapping[str, set[str]], other: Mapping[str, set[str]]) -> Iterator[Misuse]:
    """Yield what must not be, between the uses of secrets in one place and in another."""
    for name in sorted(one.keys() & other.keys()):
        for mine in sorted(one[name]):
            for theirs in sorted(other[name]):
                if mine != theirs and SIGNING & {mine, theirs}:
                    yield Misuse(name, mine, theirs)
