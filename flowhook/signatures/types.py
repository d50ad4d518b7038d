"""Types of verification: requests, verifiers, matches and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, runtime_checkable

from flowhook.errors import UnauthenticatedError

if TYPE_CHECKING:
    from flowhook.signatures.json_body import JsonBody
    from flowhook.signatures.key_requests import KeyRequest


class RequestView(NamedTuple):
    """The parts of a request that verification may read.

    A named tuple rather than a dataclass, because one is made for every request.

    Attributes:
        method: upper case.
        url: the public URL with its query string, as the sender wrote it.
        path: of the URL, percent-encoding preserved.
        query: query string without `?`, percent-encoding preserved.
        headers: lower-case names and raw values, in wire order, repeated ones included.
        body: the bytes as received; empty where verification runs before the body is read.
        client_names: names in the client certificate that TLS verified.
        keys: keys that were fetched for verifiers, None for a key that doesn't exist; see `KeyedVerifier`.
        json: JSON value of `body`, shared by all readers; None: each reader parses `body` itself.
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
    """A successful verification: the kind of `auth` that passed and the name (never the value) of its secret."""

    scheme: str
    secret: str


# From the least to the most specific: if several kinds refuse, the last in this order is reported to the operator.
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
    """A request that is not authenticated.

    The sender only receives a 401, always with the same text; `reason` and `detail` are for logs and operators and
    contain no value that was sent, nor any secret.
    """

    def __init__(self, detail: str, *, reason: str) -> None:
        super().__init__(detail, reason=reason)

    @property
    def detail(self) -> str:
        """Cause of the refusal, for the operator."""
        return self.message

    @property
    def specificity(self) -> int:
        """Rank among the refusals of several kinds, from 0; the highest says most about the cause."""
        return _SPECIFICITY.index(self.reason)


class Verifier(Protocol):
    """One kind of `auth` of one flow, with its secrets. Made by `build_verifiers`; immutable."""

    @property
    def scheme(self) -> str:
        """Name of the kind, for example `github` or `basic`."""
        ...

    @property
    def needs_body(self) -> bool:
        """False if headers and query suffice: `verify` may be called before the body is read."""
        ...

    @property
    def required_headers(self) -> frozenset[str]:
        """Lower-case names of headers, one of which must be present for `verify` to pass; empty: none is required."""
        ...

    @property
    def credential_headers(self) -> frozenset[str]:
        """Lower-case names of headers to remove before anything is stored."""
        ...

    @property
    def credential_query(self) -> frozenset[str]:
        """Decoded names of query parameters to remove before anything is stored; see `strip_query`."""
        ...

    @property
    def challenge(self) -> str | None:
        """Value for `WWW-Authenticate`, or None."""
        ...

    def verify(self, request: RequestView, now: float) -> Match:
        """Check a request in time that does not depend on how much of a credential is right. Never blocks.

        Args:
            request: the request, as received.
            now: Unix time in seconds.

        Raises:
            SignatureError: something is missing, malformed, wrong or stale; nothing else is ever raised.
        """
        ...

    def delivery_id(self, request: RequestView) -> str | None:
        """Return the provider's ID of this delivery, the same when it is repeated, or None.

        Call it only after `verify` passed: the ID may be in the body. Never raises.
        """
        ...


@runtime_checkable
class KeyedVerifier(Verifier, Protocol):
    """A verifier whose keys have to be fetched before `verify`."""

    def key_request(self, request: RequestView) -> KeyRequest[object] | None:
        """Return the key that `verify` will look up in `request.keys`; None if it needs none. Never raises."""
        ...


def verify_any(verifiers: Sequence[Verifier], request: RequestView, now: float) -> Match:
    """Return the match of the first kind that passes, even if others refuse; `now` is Unix time in seconds.

    Raises:
        SignatureError: none passed; the most specific of their refusals.
    """
    worst: SignatureError | None = None
    for verifier in verifiers:
        try:
            return verifier.verify(request, now)
        except SignatureError as error:
            if worst is None or error.specificity > worst.specificity:
                worst = error
    raise worst or SignatureError("no kind of `auth` is configured", reason="CREDENTIALS_MISSING")
