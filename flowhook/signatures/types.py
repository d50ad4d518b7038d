"""What verification looks at and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, runtime_checkable

from flowhook.errors import UnauthenticatedError

if TYPE_CHECKING:
    from flowhook.signatures.fetched import KeyRequest
    from flowhook.signatures.json_body import JsonBody


class RequestView(NamedTuple):
    """A request, as far as verification may look at it.

    A named tuple rather than a dataclass, because one is made for every request.

    Attributes:
        method: upper case.
        url: the public URL with its query string, as the sender wrote it.
        path: of the URL, percent-encoding kept.
        query: query string without `?`, percent-encoding kept.
        headers: lower-case names and raw values, in wire order, repeated ones kept.
        body: the bytes as received; empty where verification runs before the body is read.
        client_names: in the certificate that the sender showed and TLS verified.
        keys: what was fetched of what verifiers want, None for what isn't there; see `KeyedVerifier`.
        json: what `body` says as JSON, for all that look at it; None: each of them reads it anew.
    """

    method: str
    url: str
    path: str
    query: str
    headers: Sequence[tuple[str, bytes]]
    body: bytes
    client_names: tuple[str, ...] = ()
    keys: Mapping[KeyRequest[object], object] = MappingProxyType({})
    json: JsonBody | None = None


class Match(NamedTuple):
    """Who was authenticated: the kind of `auth` that passed and the name (never the value) of its secret."""

    scheme: str
    secret: str


# From the least to the most telling: of several kinds that all refused, the operator hears of the last.
_SPECIFICITY: Final = (
    "CREDENTIALS_MISSING",
    "SIGNATURE_MISSING",
    "SECRET_NOT_SET",
    "SECRET_INVALID",
    "CREDENTIALS_MALFORMED",
    "SIGNATURE_MALFORMED",
    "TIMESTAMP_MALFORMED",
    "CREDENTIALS_WRONG",
    "SIGNATURE_MISMATCH",
    "KEY_UNKNOWN",
    "BODY_UNSIGNED",
    "TIMESTAMP_STALE",
    "KEY_UNAVAILABLE",
)
REASONS: Final = frozenset(_SPECIFICITY)
"""Every `reason` of a `SignatureError`."""


class SignatureError(UnauthenticatedError):
    """A request that did not prove where it comes from.

    The sender is told nothing but 401, always with the same text; `reason` and `detail` are for logs and operators
    and hold no value that was sent, nor any secret.
    """

    def __init__(self, detail: str, *, reason: str) -> None:
        super().__init__(detail, reason=reason)

    @property
    def detail(self) -> str:
        """What was wrong, for the operator."""
        return self.message

    @property
    def specificity(self) -> int:
        """How much this says about what went wrong, compared with another kind's refusal; from 0."""
        return _SPECIFICITY.index(self.reason)


class Verifier(Protocol):
    """One kind of `auth` of one flow, with its secrets. Made by `build_verifiers`; immutable."""

    @property
    def scheme(self) -> str:
        """Name of the kind, for example `github` or `basic`."""
        ...

    @property
    def needs_body(self) -> bool:
        """False when headers and query suffice: it may be asked before the body is read."""
        ...

    @property
    def required_headers(self) -> frozenset[str]:
        """Lower-case names of headers of which one must be there for `verify` to pass; empty: it can do without."""
        ...

    @property
    def credential_headers(self) -> frozenset[str]:
        """Lower-case names of headers to remove before anything is stored."""
        ...

    @property
    def credential_query(self) -> frozenset[str]:
        """Decoded names of query parameters to remove likewise; see `strip_query`."""
        ...

    @property
    def challenge(self) -> str | None:
        """Value for `WWW-Authenticate`, or None."""
        ...

    def verify(self, request: RequestView, now: float) -> Match:
        """Check a request in time that does not depend on how much of a credential is right. Never blocks.

        Args:
            request: what came in.
            now: Unix time in seconds.

        Raises:
            SignatureError: whatever is missing, malformed, wrong or stale; nothing else is ever raised.
        """
        ...

    def delivery_id(self, request: RequestView) -> str | None:
        """Return the provider's ID of this delivery, the same when it is repeated, or None.

        Ask only after `verify` passed: the ID may stand in the body. Never raises.
        """
        ...


@runtime_checkable
class KeyedVerifier(Verifier, Protocol):
    """One whose keys stand elsewhere, to be fetched before it is asked."""

    def wanted(self, request: RequestView) -> KeyRequest[object] | None:
        """Return the key that `verify` will look for in `request.keys`; None when there is none. Never raises."""
        ...


def verify_any(verifiers: Sequence[Verifier], request: RequestView, now: float) -> Match:
    """Return the match of the first kind that passes, whatever the others say.

    Args:
        verifiers: what `build_verifiers` made of one `auth`.
        request: what came in.
        now: Unix time in seconds.

    Raises:
        SignatureError: none passed; the most telling of their refusals.
    """
    worst: SignatureError | None = None
    for verifier in verifiers:
        try:
            return verifier.verify(request, now)
        except SignatureError as error:
            if worst is None or error.specificity > worst.specificity:
                worst = error
    raise worst or SignatureError("no kind of `auth` is configured", reason="CREDENTIALS_MISSING")
