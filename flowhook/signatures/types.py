"""Types of verification: requests, verifiers, matches and errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

import attrs
import orjson

from flowhook import limits
from flowhook.errors import InvalidError, UnauthenticatedError
from flowhook.json import check_value_count, load_json

# A larger body is parsed before verification only if the flow's own `max_body` allows it, and never if it has more than
# `MAX_VALUES` values: the sender determines the cost, and nothing else runs meanwhile, not even other threads.
MAX_JSON_BYTES: Final = 1 * limits.MIB  # parsed within some 35 ms, whatever its content
MAX_VALUES: Final = 300_000  # with 16 MiB of strings, counted and parsed within some 200 ms


@attrs.define(eq=False, repr=False)
class JsonBody:
    """A body as JSON, parsed on first use, with the limits of `read_json`; parsed again if asked for another body.

    Belongs to one request; not thread-safe. `body` and `value` are of one that was parsed before.
    """

    _max_bytes: int = MAX_JSON_BYTES
    _max_values: int = MAX_VALUES
    _body: bytes | None = attrs.field(default=None, kw_only=True)
    _value: Any = attrs.field(default=None, kw_only=True)

    def of(self, body: bytes) -> Any:
        """Return the value of a body; None if it is not JSON, or exceeds the limits."""
        if self._body is not body:
            self._value = read_json(body, self._max_bytes, self._max_values)
            self._body = body
        return self._value


def read_json(body: bytes, max_bytes: int = MAX_JSON_BYTES, max_values: int = MAX_VALUES) -> Any:
    """Return the value of a body as JSON; None if it is not JSON, or exceeds the limits. Never raises.

    The number of values is limited in a body that is larger than `MAX_JSON_BYTES`.
    """
    if len(body) > max_bytes:
        return None
    try:
        if len(body) > MAX_JSON_BYTES:
            check_value_count(body, max_values)
        return load_json(body)
    except (InvalidError, orjson.JSONDecodeError):
        return None


def json_of(request: RequestView) -> Any:
    """Return the JSON value of the body of a request, as `read_json` does; parsed once if the request has `json`."""
    return read_json(request.body) if request.json is None else request.json.of(request.body)


class RequestView(NamedTuple):
    """The parts of a request that verification may read. A named tuple, because one is made for every request."""

    method: str  # upper case
    url: str  # the public URL with its query string, as the sender wrote it
    path: str  # of the URL, percent-encoding preserved
    query: str  # query string without `?`, percent-encoding preserved
    headers: Sequence[tuple[str, bytes]]  # lower-case names and raw values, in wire order, repeated ones included
    body: bytes  # the bytes as received; empty where verification runs before the body is read
    client_names: tuple[str, ...] = ()  # names in the client certificate that TLS verified
    # keys that were fetched for verifiers, None for a key that doesn't exist; see `KeyedVerifier`
    keys: Mapping[KeyRequest[object], object] = MappingProxyType({})
    json: JsonBody | None = None  # JSON value of `body`, shared by all readers; None: each reader parses `body` itself

    def with_body(self, body: bytes) -> RequestView:
        """Return the request with a body; takes a quarter of the time of `_replace`."""
        method, url, path, query, headers, _, client_names, keys, json = self
        return RequestView(method, url, path, query, headers, body, client_names, keys, json)


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
REASONS: Final = frozenset(_SPECIFICITY)  # every `reason` of a `SignatureError`


class SignatureError(UnauthenticatedError):
    """A request that is not authenticated.

    The sender only receives a 401, always with the same text; `reason` and `detail` are for logs and operators and
    contain no value that was sent, nor any secret.
    """

    def __init__(self, detail: str, *, reason: str) -> None:
        super().__init__(detail, reason=reason)

    @property
    def detail(self) -> str:
        return self.message

    @property
    def specificity(self) -> int:
        """Rank among the refusals of several kinds, from 0; the highest says most about the cause."""
        return _SPECIFICITY.index(self.reason)


T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class KeyRequest(Generic[T_co]):
    """A public key that is fetched over the network before verification, and the document that contains it.

    Verification neither blocks nor waits. So a verifier with remote keys says beforehand which key a request needs
    (`KeyedVerifier.key_request`), and the caller fetches it and puts it into `RequestView.keys`. The sender, who is not
    authenticated yet, may determine which key is requested: only URLs that the verifier trusts are ever requested.
    """

    url: str  # of the document; it is fetched from there and no other host
    # parses the document into keys by ID, which is empty for the key of a document with one key alone; raises
    # ValueError if it can't
    read: Callable[[bytes], Mapping[str, T_co]]
    publisher: str  # name under which documents share a rate limit of fetches, however many of them senders name
    key_id: str = ""  # ID of the key; empty if the document contains one key alone
    body: bytes = field(default=b"", repr=False)  # JSON to POST, which may hold a credential; empty: GET


def fetched_key(request: RequestView, wanted_key: KeyRequest[T_co]) -> T_co:
    """Return a key fetched beforehand; SignatureError: `KEY_UNAVAILABLE`, or not in its document (`KEY_UNKNOWN`)."""
    try:
        key = request.keys[wanted_key]
    except KeyError:
        raise SignatureError("the document with the key can't be fetched", reason="KEY_UNAVAILABLE") from None
    if key is None:
        raise SignatureError("the key is not in the document that should have it", reason="KEY_UNKNOWN")
    return cast("T_co", key)


class Verifier(ABC):
    """One kind of `auth` of one flow, with its secrets. Made by `build_verifiers`; immutable."""

    scheme: str  # name of the kind, for example `github` or `basic`
    needs_body: bool = False  # False if headers and query suffice: `verify` may be called before the body is read
    # lower-case names of headers, one of which must be present for `verify` to pass; empty: none is required
    required_headers: frozenset[str] = frozenset()
    credential_headers: frozenset[str] = frozenset()  # lower-case names of headers to remove before anything is stored
    # decoded names of query parameters to remove before anything is stored; see `strip_query`
    credential_query: frozenset[str] = frozenset()
    challenge: str | None = None  # value for `WWW-Authenticate`
    keys: int = 1  # number of keys
    comparisons: int = 1  # maximum number of comparisons for each key
    delivery_in_json: bool = False  # whether the delivery ID is in the JSON body
    reads_json: bool = False  # whether it parses bodies as JSON, to find a signature or related values
    signature_tag: bytes | None = None  # prefix of the signature, where a header contains nothing else; None elsewhere
    signs_body: bool = False  # whether the body is signed as a whole, rather than fields of it
    signs_url: bool = False  # whether the URL is signed

    @abstractmethod
    def verify(self, request: RequestView, now: float) -> Match:
        """Check a request in time that does not depend on how much of a credential is right. Never blocks.

        `now` is Unix time in seconds.

        Raises:
            SignatureError: something is missing, malformed, wrong or stale; nothing else is ever raised.
        """

    def delivery_id(self, request: RequestView) -> str | None:  # noqa: ARG002 - most kinds name no delivery
        """Return the provider's ID of this delivery, the same when it is repeated, or None.

        Call it only after `verify` passed: the ID may be in the body. Never raises.
        """
        return None


class KeyedVerifier(Verifier):
    """A verifier whose keys have to be fetched before `verify`."""

    def key_request(self, request: RequestView) -> KeyRequest[object] | None:
        """Return the key that `verify` will look up in `request.keys`; None if it needs none. Never raises."""
        try:
            return self._wanted_key(request)
        except SignatureError:
            return None

    @abstractmethod
    def _wanted_key(self, request: RequestView) -> KeyRequest[object] | None:
        """Return the key that verifies a request; None, or a SignatureError, if it needs none."""


# Outcome of verification: the verifier that passed and its match, or the reason why none passed.
Outcome = tuple[Verifier, Match] | SignatureError


def first_match(verifiers: Sequence[Verifier], request: RequestView, now: float) -> Outcome:
    """Return the first verifier that passes and its match, even if others refuse, or their most specific refusal."""
    refusals = []
    for verifier in verifiers:
        try:
            return verifier, verifier.verify(request, now)
        except SignatureError as error:
            refusals.append(error)
    return most_specific(*refusals)


def most_specific(*outcomes: Outcome | None) -> SignatureError:
    refusals = (each for each in outcomes if isinstance(each, SignatureError))
    unknown = SignatureError("no kind of `auth` is configured", reason="CREDENTIALS_MISSING")
    return max(refusals, key=lambda each: each.specificity, default=unknown)


def verify_any(verifiers: Sequence[Verifier], request: RequestView, now: float) -> Match:
    """Return the first match, even if others refuse, or raise the most specific refusal; `now` is in Unix seconds."""
    outcome = first_match(verifiers, request, now)
    if isinstance(outcome, SignatureError):
        raise outcome
    return outcome[1]
