"""Models of the `webhook` key: how a flow receives events over HTTP (docs/flow-file.md).

Expressions here run outside the runner, so they are limited to paths and string interpolations of paths. They are
checked when the document is loaded (`flowhook.expressions.paths`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import islice
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt

from flowhook import limits
from flowhook.document.definition import strings_in
from flowhook.document.diagnostics.problems import Code, LocatedCause, validation_error
from flowhook.document.models import base
from flowhook.document.models.auth import Auth, CallbackAuth, kinds_by_secret, secret_misuses
from flowhook.document.models.base import Model, accept, at_least_one, model_check, refusing
from flowhook.document.models.credentials import AuthKind, CustomSignature, Duration, OneTimeUrlAuth
from flowhook.errors import InvalidError
from flowhook.expressions.paths import compile_accessor
from flowhook.expressions.syntax import is_expression, strip_markers
from flowhook.model.own_urls import MAX_SEGMENTS, OwnUrl
from flowhook.providers.scheme import TOKEN

RESERVED_HEADERS: Final = frozenset(
    {
        "connection", "content-length", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
        "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Hop-by-hop fields (RFC 9110, section 7.6.1) and the length: the HTTP library sets them, a flow does not."""

Method = Literal["POST", "GET", "PUT", "PATCH", "DELETE"]
Network = IPv4Network | IPv6Network

MAX_DEDUPE_SECONDS: Final = 7 * 24 * 3600.0
MAX_PREFLIGHT_SECONDS: Final = 24 * 3600.0
MAX_REPLY_SECONDS: Final = 3600.0
MAX_SILENCE_SECONDS: Final = 28 * 24 * 3600.0
MAX_RATE: Final = 1_000_000
MAX_NETWORKS: Final = 1000

CALLBACK_NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""A URL segment that needs no encoding, and is neither `.` nor `..`."""

MAPPED_BITS: Final = 96  # bits before the IPv4 address in an IPv4-mapped IPv6 address

BODYLESS_METHODS: Final = frozenset({"GET", "DELETE"})
BODYLESS_STATUSES: Final = frozenset({204, 205, 304})
"""Statuses of responses without content (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5)."""

_ONLY_ID: Final = re.compile(r'\s*(?:\.id|"(?:[^"\\]|\\\(\s*\.id\s*\)|\\[^(])*")\s*')
"""Expressions over the ID alone: nothing else of a request is known when its flow replies."""

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def _bad_expressions(value: object) -> Iterator[LocatedCause]:
    for place, text in strings_in(value):
        if is_expression(text):
            try:
                compile_accessor(strip_markers(text), variables=())
            except InvalidError as error:
                yield place, Code.EXPRESSION_INVALID, error.message


def _bad_headers(headers: dict[str, str]) -> Iterator[LocatedCause]:
    seen: set[str] = set()
    for name, value in headers.items():
        cause, lower = "", name.lower()
        if not TOKEN.fullmatch(name):
            cause = "is not a valid header name: use letters, digits and hyphens"
        elif lower in RESERVED_HEADERS:
            cause = "is set by the server, not by a flow"
        elif lower in seen:
            cause = "is defined twice: header names don't distinguish upper and lower case"
        elif _CONTROLS.search(value) or not value.isascii():
            cause = "must be printable ASCII in one line"
        if cause:
            yield (name,), Code.HEADER_INVALID, cause
        seen.add(lower)


_check_key: Final = accept(
    lambda value: value == "none" or is_expression(value),
    Code.EXPRESSION_REQUIRED,
    'must be an expression such as ${ .headers["x-id"] }, or `none` to turn it off',
)


_size: Final = base.size(
    1, limits.MAX_STREAMED_BODY_BYTES, "must be between 1 byte and 1GiB, the maximum that Flowhook stores"
)
_callback_size: Final = base.size(
    1, limits.MAX_CALLBACK_BODY_BYTES, "must be between 1 byte and 1MiB, the maximum for a running execution"
)


def _network(value: object) -> Network:
    if not isinstance(value, str):
        raise validation_error(Code.VALUE_TYPE, "must be an address or a network, such as 192.0.2.0/24")
    try:
        return _unmapped(ip_network(value))
    except ValueError:
        pass
    try:
        wider = ip_network(value, strict=False)
    except ValueError:
        cause = f"{value!r} is neither an address nor a network such as 192.0.2.0/24 or 2001:db8::/32"
        raise validation_error(Code.VALUE_FORMAT, cause) from None
    raise validation_error(Code.VALUE_FORMAT, f"{value!r} has bits beyond its prefix: did you mean {wider}?")


def _unmapped(network: Network) -> Network:
    """Convert IPv4-mapped networks to IPv4, the form in which peers are compared (RFC 4291, section 2.5.5.2)."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < MAPPED_BITS:
        return network
    return IPv4Network((mapped, network.prefixlen - MAPPED_BITS))


def _some(networks: tuple[Network, ...]) -> tuple[Network, ...]:
    if not 1 <= len(networks) <= MAX_NETWORKS:
        cause = f"needs 1 to {MAX_NETWORKS} networks, not {len(networks)}; remove the key to allow every address"
        raise validation_error(Code.VALUE_RANGE, cause)
    return networks


def _distinct(methods: tuple[Method, ...]) -> tuple[Method, ...]:
    if not methods:
        raise validation_error(Code.VALUE_RANGE, "needs at least one method; without the key, POST is allowed")
    if len(set(methods)) != len(methods):
        raise validation_error(Code.NAME_DUPLICATE, "lists a method twice")
    return methods


def _method(value: object) -> object:
    if value == "HEAD":
        raise validation_error(Code.VALUE_CHOICE, "HEAD is always answered, and never starts a flow: remove it")
    if isinstance(value, str) and value not in get_args(Method):
        cause = f"{value!r} is not one of POST, GET, PUT, PATCH and DELETE, in upper case"
        raise validation_error(Code.VALUE_CHOICE, cause)
    return value


ID_ALONE: Final = "in `mode: reply`, expressions here can read only `.id`; `call: reply` can respond with anything"

NetworkText = Annotated[Network, BeforeValidator(_network), base.NETWORK]
Status = Annotated[StrictInt, Field(ge=200, le=599)]


def _beyond_id(**parts: object) -> Iterator[LocatedCause]:
    """Yield a problem for each expression over anything but the ID."""
    for place, text in strings_in(parts):
        if is_expression(text) and not _ONLY_ID.fullmatch(strip_markers(text)):
            yield place, Code.EXPRESSION_NOT_ALLOWED, ID_ALONE


_EXPRESSIONS: Final = AfterValidator(refusing(_bad_expressions))
Headers = Annotated[dict[str, str], AfterValidator(refusing(_bad_headers)), _EXPRESSIONS]


def _superfluous_body(response: OnFault | Respond) -> Iterator[LocatedCause]:
    if response.status in BODYLESS_STATUSES and response.body not in (None, ""):
        cause = f"a response with status {response.status} has no body: remove it"
        yield ("body",), Code.RESPONSE_INVALID, cause


class OnFault(Model):
    """The response to a waiting sender when the flow faults or is cancelled."""

    status: Status = 502
    """In [200, 599]."""
    headers: Headers = Field(default_factory=dict, max_length=64)
    """Values may be expressions about `.id`, the execution's."""
    body: Annotated[Any, _EXPRESSIONS] = None
    """JSON or a string, as in `Respond`, with the same expressions. None: a problem detail with that ID."""

    _has_no_body = model_check(_superfluous_body)

    @model_check
    def _knows_the_id(self) -> Iterator[LocatedCause]:
        return _beyond_id(headers=self.headers, body=self.body)


def _default_body(mode: str, status: int, **_: object) -> Any:
    return {"id": "${ .id }"} if mode == "accept" and status not in BODYLESS_STATUSES else None


class Respond(Model):
    """The response to the sender."""

    mode: Literal["accept", "reply"] = "accept"
    """`accept` responds once the event is durable, `reply` when the flow replies."""
    status: Status = Field(default_factory=lambda keys: 202 if keys["mode"] == "accept" else 200)
    """In [200, 599]. In mode `reply` this and `headers` go with the flow's output; a reply has its own."""
    headers: Headers = Field(default_factory=dict, max_length=64)
    """Values may be expressions (whole strings `${ … }`); in mode `reply`, about `.id` alone."""
    body: Annotated[Any, _EXPRESSIONS] = Field(default_factory=lambda keys: _default_body(**keys))
    """JSON whose strings may be expressions. A string as a whole is sent as it is, as `text/plain` unless `headers` say
    otherwise. None: no body; in mode `reply`, the flow's output."""
    timeout: Annotated[Duration, Field(gt=0, le=MAX_REPLY_SECONDS)] = 30.0
    """Seconds a sender is held in mode `reply`."""
    on_fault: OnFault = OnFault()
    """For mode `reply`."""

    _has_no_body = model_check(_superfluous_body)

    @model_check
    def _keys_belong_to_their_mode(self) -> Iterator[LocatedCause]:
        if self.mode == "reply":
            if self.body is not None:
                cause = "in `mode: reply` the body is the flow's output: use `output` or `call: reply` instead"
                yield ("body",), Code.RESPONSE_INVALID, cause
            yield from _beyond_id(headers=self.headers)
            return
        for key in ("timeout", "on_fault"):
            if key in self.model_fields_set:
                yield (key,), Code.KEY_CONFLICT, "is allowed with `mode: reply` only"


class Dedupe(Model):
    """The recognition of repeated deliveries."""

    key: Annotated[str | None, BeforeValidator(_check_key), _EXPRESSIONS] = None
    """An expression; `none` turns it off; None: the delivery ID that the provider sends, or `Idempotency-Key` with the
    kinds `basic` and `api_key`, and without authentication: then anybody who knows a key can use it up."""
    window: Annotated[Duration, Field(le=MAX_DEDUPE_SECONDS)] = 24 * 3600.0
    """Seconds for which a key is remembered; in (0, 7 days]."""

    @property
    def enabled(self) -> bool:
        return self.key != "none"


class RateLimit(Model):
    """A token bucket: for a flow per router, for a sender per edge."""

    per_second: Annotated[float, Field(gt=0, le=MAX_RATE, allow_inf_nan=False, strict=True)]
    """Tokens added per second, in (0, 1,000,000]."""
    burst: Annotated[StrictInt, Field(ge=1, le=MAX_RATE)] = Field(
        default_factory=lambda keys: max(math.ceil(keys["per_second"]), 1)
    )
    """Capacity; default: the tokens of a second, at least one."""


_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(?::[0-9]{1,5})?")


def _own_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            cause = f"{origin[:100]!r} is neither `*` nor an origin such as https://app.example.com, in lower case"
            raise validation_error(Code.VALUE_FORMAT, cause)
    return origins


class Cors(Model):
    """Which pages in browsers may call the URL, and read the answers."""

    origins: Annotated[tuple[str, ...], Field(min_length=1, max_length=100), AfterValidator(_own_origins)]
    """Origins of the pages, such as `https://app.example.com`, or `*` for any."""
    max_age: Annotated[Duration, Field(ge=0, le=MAX_PREFLIGHT_SECONDS)] = 600.0
    """Seconds for which browsers need not ask again."""


class InboundEndpoint(Model):
    """Keys that webhooks and callbacks share."""

    model_config = ConfigDict(json_schema_extra={"required": ["auth"]})

    auth: Auth = Field(default=None, validate_default=True)  # the validator reports the missing key
    """Kinds of credentials of which one must pass; empty: none is required."""
    methods: Annotated[tuple[Annotated[Method, BeforeValidator(_method)], ...], AfterValidator(_distinct)] = ("POST",)
    respond: Respond = Respond()
    dedupe: Dedupe = Dedupe()
    rate_limit: RateLimit | None = None
    """Limit for all senders together."""
    sender_rate_limit: RateLimit | None = None
    """Limit for each sender, identified by its credential or, without credentials, by its address."""
    cors: Cors | None = None
    max_body: Annotated[int, _size, base.SIZE] = limits.DEFAULT_BODY_BYTES
    """Bytes, in [1, `limits.MAX_STREAMED_BODY_BYTES`]; of a body that is decompressed, before and after."""
    parse: Literal["auto", "raw"] = "auto"
    """`auto`, by the media type (see `flowhook.payloads`), or `raw`: the body is an attachment, whatever it is."""
    keep_rejected_bodies: StrictBool = False
    """Whether refused requests are stored: the first 64 KiB of their bodies and, encrypted, what those that fail
    authentication are verified again by."""
    allow_from: Annotated[tuple[NetworkText, ...], AfterValidator(_some)] = ()
    """Networks that senders may come from; empty: any."""

    @model_check
    def _parts_fit_together(self) -> Iterator[LocatedCause]:
        unsigned = any(isinstance(kind, CustomSignature) and not kind.covers_body for kind in self.auth)
        if unsigned and not BODYLESS_METHODS.issuperset(self.methods):
            cause = "`content` must cover {body}, unless `methods` are only GET and DELETE"
            yield ("auth",), Code.SIGNATURE_UNSAFE, cause
        given = {name.lower() for name in (*self.respond.headers, *self.respond.on_fault.headers)}
        if self.cors is not None and "access-control-allow-origin" in given:
            cause = "`respond` sets Access-Control-Allow-Origin, too, and browsers refuse two: leave one of them out"
            yield ("cors",), Code.KEY_CONFLICT, cause
        keyless = "dedupe" in self.model_fields_set and self.dedupe.key is None
        if keyless and self.auth and not any(kind.names_deliveries for kind in self.auth):
            yield ("dedupe",), Code.KEY_MISSING, "needs a `key`: these senders send no delivery ID"

    def secret_names(self) -> frozenset[str]:
        return frozenset(name for kind in self.auth for name in (*kind.secret_names, *kind.other_secret_names))


class Callback(InboundEndpoint):
    """A webhook in the middle of a flow."""

    model_config = ConfigDict(json_schema_extra={"required": []})

    auth: CallbackAuth = Field(default=None, validate_default=True)
    """As in `InboundEndpoint`; `OneTimeUrlAuth` alone: there is no URL but the one-time ones."""
    deliver: Literal["one", "all"] = "one"
    """Receivers of an event without a one-time URL. `one`: the execution that waits for it; if several do, the event is
    refused. `all`: every execution that waits for it."""
    max_body: Annotated[int, _callback_size, base.SIZE] = limits.DEFAULT_CALLBACK_BODY_BYTES
    """Bytes, in [1, `limits.MAX_CALLBACK_BODY_BYTES`]."""

    @model_check
    def _is_a_callback(self) -> Iterator[LocatedCause]:
        if self.respond.mode == "reply":
            cause = (
                "a callback is answered once it is stored: only the request that started a flow can wait for a reply"
            )
            yield ("respond", "mode"), Code.RESPONSE_INVALID, cause
        elif self.only_one_time and "deliver" in self.model_fields_set:
            cause = "a one-time URL belongs to one execution: remove this key, or say in `auth` who else may call"
            yield ("deliver",), Code.KEY_CONFLICT, cause

    @property
    def only_one_time(self) -> bool:
        return any(isinstance(kind, OneTimeUrlAuth) for kind in self.auth)


FieldName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\[\]]+$")]
MAX_FIELDS: Final = 100

CallbackName = Annotated[str, Field(pattern=CALLBACK_NAME_PATTERN)]


class Otherwise(Model):
    """The statuses of the responses to requests that the flow does not want."""

    filtered: Status = 204
    """In [200, 599]."""
    invalid: Status = 422
    """In [200, 599]."""


class Accept(Model):
    """What a request has to be for its event to be stored; both conditions are about the input without attachments."""

    filter: Annotated[str, Field(min_length=1)] | None = None
    """A jq expression. A request for which its first result is false or null is not stored, and nothing runs."""
    schema_: base.Schema | None = Field(None, alias="schema")
    """What a request has to meet that passes the filter."""
    otherwise: Otherwise = Otherwise()

    _decides_something = at_least_one("filter", "schema_", cause="needs a `filter`, a `schema`, or both")


class Expect(Model):
    """How often events come in."""

    every: Annotated[Duration, Field(ge=1, le=MAX_SILENCE_SECONDS)]
    """Seconds within which an event is accepted at least; else the flow is silent. In [1, 28 days]: what is removed
    before that can't be known to have come."""


RESERVED_PATHS: Final = ("/hook", "/replies", "/healthz", "/readyz")
_PATH: Final = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]+/)*(?:[A-Za-z0-9._~!$&'()*+,;=:@-]+)?")
_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)


def _own_path(path: str) -> str:
    if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        cause = "expected a path such as /stripe/events, of characters that need no encoding"
        raise validation_error(Code.VALUE_FORMAT, cause)
    if path.count("/") > MAX_SEGMENTS:
        raise validation_error(Code.VALUE_RANGE, f"has more than {MAX_SEGMENTS} segments")
    for reserved in RESERVED_PATHS:
        if path == reserved or path.startswith(f"{reserved}/"):
            raise validation_error(Code.VALUE_CHOICE, f"{reserved} and what is below it belongs to Flowhook")
    return path


def _own_host(host: str) -> str:
    if not _HOST.fullmatch(host.lower()):
        cause = "expected the name of a host, such as hooks.example.com, without scheme and port"
        raise validation_error(Code.VALUE_FORMAT, cause)
    return host.lower()


class Webhook(InboundEndpoint):
    """The URL of a flow."""

    path: Annotated[str, Field(max_length=255), AfterValidator(_own_path)] | None = None
    """Path of the flow's own URL, beside `/hook/<flow>`; default: `/` if there is a `host`."""
    host: Annotated[str, AfterValidator(_own_host)] | None = None
    """Host of the flow's own URL; default: any."""
    accept: Accept | None = None
    expect: Expect | None = None

    fields: Annotated[dict[FieldName, Literal["number", "integer", "boolean"]], Field(max_length=MAX_FIELDS)] = Field(
        default_factory=dict
    )
    """Types of the fields of forms and queries, which are texts otherwise, by name."""
    subpaths: StrictBool = False
    """Whether any suffix of the URL is accepted. One that names a callback, alone or before a token, is that callback's
    all the same."""
    callbacks: Annotated[dict[CallbackName, Callback], Field(max_length=limits.MAX_CALLBACKS)] = Field(
        default_factory=dict, json_schema_extra={"additionalProperties": False}
    )
    """By name, at most `limits.MAX_CALLBACKS`."""

    @model_check
    def _what_a_handshake_signs_is_nothing_elsewhere(self) -> Iterator[LocatedCause]:
        """Refuse a secret of a kind whose handshake signs text chosen by others, if another kind uses it too."""
        uses = kinds_by_secret(self.all_kinds())
        for found in islice(secret_misuses(uses, uses), 1):  # each is found both ways
            owner = f"secret {found.secret} belongs to `{found.signing}`, whose handshake signs text that others choose"
            yield ("auth",), Code.SECRET_SHARED, f"{owner}: no other kind may use it"

    @property
    def own_url(self) -> OwnUrl | None:
        """URL of the flow's own, beside `/hook/<flow>`; None: it has none."""
        if self.path is None and self.host is None:
            return None
        return OwnUrl(self.host or "", self.path or "/", self.subpaths or bool(self.callbacks))

    def all_kinds(self) -> list[AuthKind]:
        return [*self.auth, *(kind for callback in self.callbacks.values() for kind in callback.auth)]

    def secret_names(self) -> frozenset[str]:
        """Return the names of all secrets that verification needs, those of callbacks included."""
        return super().secret_names().union(*(callback.secret_names() for callback in self.callbacks.values()))
