"""Compiled endpoints of a flow: everything about its URLs that can be computed before a request arrives.

A flow has the URL `/hook/<flow>`. Each of its callbacks has a one-time URL `/hook/<flow>/<name>/<token>`, whose token
is its credential, and, unless the callback allows only that, `/hook/<flow>/<name>`. Each of the three is a
`CompiledEndpoint`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson

from edge.http import responses
from edge.http.head import Head
from edge.webhook.body_offload import BodyQuery
from edge.webhook.configured_responses import ConfiguredResponse, FlowResponse
from edge.webhook.handshakes import Handshakes
from edge.webhook.sender_rate_limiter import SenderRateLimiter
from flowhook import limits
from flowhook.document.models.credentials import MtlsAuth
from flowhook.document.models.webhook import Callback, Webhook
from flowhook.events.dedupe_key import DedupeKey
from flowhook.events.ids import slot_of
from flowhook.events.order_key import OrderKey
from flowhook.events.search_attributes import Attributes, SearchAttributes
from flowhook.expressions.paths import PathStep
from flowhook.payloads import Selection, event_identity, is_parsed_whole, parse_content_type, selection_of
from flowhook.payloads.parsing import IDENTITY
from flowhook.signatures import (
    MAX_JSON_BYTES,
    KeyedVerifier,
    Match,
    RequestView,
    Verifier,
    build_verifiers,
    can_stream,
)
from flowhook.signatures.diagnosis import SecretVariants

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields that apply to a single connection (RFC 9110, section 7.6.1)."""

CREDENTIALS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
"""Fields that carry credentials, whatever authentication a flow requires."""

URLS: Final = frozenset(
    {
        "referer",
        "x-envoy-original-path",
        "x-forwarded-uri",
        "x-original-uri",
        "x-original-url",
        "x-rewrite-url",
    }
)
"""Fields in which proxies and browsers repeat the URL, and with it a credential that the URL contains."""


class KeyRules(NamedTuple):
    """How the order key and the search attributes of a flow's events are computed."""

    order_by: str | None = None  # expression that computes the order key; None: events are not ordered
    search: Mapping[str, str] = MappingProxyType({})  # paths of the search attributes by name
    revision: int = 0  # flow revision that defines the rules


NO_KEYS: Final = KeyRules()


class ParsedContent(NamedTuple):
    """The parsed content of a body."""

    body: Any  # parsed value without attachments; for a large body, only the parts that the endpoint uses
    order_key: str | None = None  # order key of a large body; None: to be evaluated from `body`
    dedupe: str | None = None  # text of the dedupe key of a large body; None: to be evaluated from `body`
    attributes: Attributes | None = None  # search attributes of a large body; None: to be evaluated from `body`


EMPTY: Final = ParsedContent(None)


class CompiledEndpoint:
    """One compiled URL."""

    __slots__ = (
        "_dedupe",
        "_namespaces",
        "_networks",
        "_signatures",
        "asks",
        "callback",
        "dedupes_by_delivery_id",
        "dropped_headers",
        "dropped_query",
        "early",
        "early_keyed",
        "flow",
        "flow_id",
        "flow_revision",
        "handshakes",
        "late",
        "late_keyed",
        "log_fields",
        "max_body",
        "max_parsed",
        "max_unverified_json",
        "methods",
        "needs_json_body",
        "needs_view",
        "not_allowed",
        "one_time",
        "order_key",
        "raw",
        "reads_json",
        "response",
        "schemes",
        "search",
        "secret_variants",
        "sender_limiter",
        "slot",
        "stores_rejected_bodies",
        "streaming",
        "unauthenticated",
        "wanted",
    )

    def __init__(
        self,
        flow_id: str,
        webhook: Webhook | Callback,
        secrets: Mapping[str, bytes],
        *,
        callback: str = "",
        one_time: bool = False,
        keys: KeyRules = NO_KEYS,
    ) -> None:
        self.flow_id = flow_id
        self.slot = slot_of(flow_id)  # slot of the flow, for minting IDs
        self.callback = callback  # name of the callback; empty for the URL of a flow
        # fields that identify the endpoint in a log line
        self.log_fields = {"flow": flow_id, "callback": callback} if callback else {"flow": flow_id}
        # whether the last segment of the path is a token, the only credential this URL requires
        self.one_time = one_time
        self.methods = frozenset[str](webhook.methods)
        self.not_allowed = responses.method_not_allowed(webhook.methods)
        self.max_body = webhook.max_body
        # maximum size in bytes of a body that is parsed, both as received and decompressed
        self.max_parsed = min(webhook.max_body, limits.MAX_BODY_BYTES)
        self.schemes = ",".join(kind.kind for kind in webhook.auth)
        self._networks = webhook.allow_from
        only_one_time = isinstance(webhook, Callback) and webhook.only_one_time
        verifiers = build_verifiers(() if only_one_time else webhook.auth, secrets)
        self.secret_variants = SecretVariants(webhook.auth, secrets)  # other readings of its secrets, for diagnoses
        # lower-case names of fields that are not stored
        self.dropped_headers = HOP_BY_HOP.union(CREDENTIALS, *(verifier.credential_headers for verifier in verifiers))
        # names of query parameters that are not stored
        self.dropped_query = frozenset[str]().union(*(verifier.credential_query for verifier in verifiers))
        if self.dropped_query or one_time:
            self.dropped_headers |= URLS
        if one_time:
            verifiers = build_verifiers((), secrets)
        self._namespaces = _namespaces(verifiers)
        self.early = [verifier for verifier in verifiers if not verifier.needs_body]  # verifiers that need no body
        self.late = [verifier for verifier in verifiers if verifier.needs_body]  # verifiers that need the body
        # whether a verifier of `late` parses bodies as JSON
        self.reads_json = any(verifier.reads_json for verifier in self.late)
        is_said = "max_body" in webhook.model_fields_set
        # maximum size in bytes of an unverified body that is parsed as JSON for these verifiers
        self.max_unverified_json = self.max_parsed if is_said else min(self.max_parsed, MAX_JSON_BYTES)
        # verifiers of `late` that can process a body while it arrives
        self.streaming = [verifier for verifier in self.late if can_stream(verifier)]
        # verifiers of `early` whose keys are fetched
        self.early_keyed = [verifier for verifier in self.early if isinstance(verifier, KeyedVerifier)]
        # verifiers of `late` whose keys are fetched
        self.late_keyed = [verifier for verifier in self.late if isinstance(verifier, KeyedVerifier)]
        self._signatures = _signature_headers(self.late)
        challenges = [verifier.challenge for verifier in verifiers if verifier.challenge is not None]
        self.unauthenticated = responses.unauthenticated(challenges[0] if challenges else None)
        self.asks = bool(webhook.auth) and not one_time  # whether any credentials are required
        dedupe = webhook.dedupe
        deduplicates = dedupe.enabled and not one_time  # a repeated delivery finds the token used
        self.dedupes_by_delivery_id = deduplicates and dedupe.key is None and self.asks
        self._dedupe = DedupeKey(dedupe.key) if deduplicates and dedupe.key is not None else None
        self.raw = webhook.parse == "raw"  # whether bodies are stored unparsed
        # rate limits by sender; None when there is no such limit
        self.sender_limiter = (
            None if webhook.sender_rate_limit is None else SenderRateLimiter(webhook.sender_rate_limit)
        )
        # whether the bodies of refused requests are stored for operators
        self.stores_rejected_bodies = webhook.keep_rejected_bodies
        # handshakes of its providers; None when they have none
        self.handshakes = None if one_time else Handshakes(webhook.auth, secrets) or None
        # whether verified bodies are also parsed as JSON separately, for handshakes or delivery IDs
        self.needs_json_body = self.handshakes is not None or (
            self.dedupes_by_delivery_id and any(verifier.delivery_in_json for verifier in verifiers)
        )
        self.response = ConfiguredResponse(webhook.respond)
        # responses of the flow itself, when senders wait for them
        self.flow = FlowResponse(webhook.respond) if webhook.respond.mode == "reply" else None
        # order key of the flow's events; None when they are not ordered, and for callbacks
        self.order_key = None if keys.order_by is None else OrderKey(keys.order_by)
        # search attributes of the flow's events; None when there are none, and for callbacks
        self.search = SearchAttributes(keys.search) if keys.search else None
        self.flow_revision = keys.revision  # flow revision that defines `order_key` and `search`
        self.needs_view = self.response.needs_view or any((self._dedupe, self.order_key, self.search))
        dedupe_by = None if self._dedupe is None else self._dedupe.expression
        # JSON of the parts needed of a large body (`body_offload.BodyQuery`)
        self.wanted = orjson.dumps(BodyQuery(self._selection(), keys.order_by, dedupe_by, dict(keys.search)))

    def _selection(self) -> Selection:
        """Return the parts of a body that are read, apart from its order and dedupe keys."""
        looked_at: list[Sequence[PathStep]] = [path[1:] for path in self.response.paths if path[:1] in ((), ("body",))]
        if self.dedupes_by_delivery_id:
            looked_at += IDENTITY
        if self.handshakes is not None:
            looked_at += self.handshakes.paths
        return selection_of(looked_at)

    def admits(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether `allow_from` accepts requests from this address."""
        return not self._networks or any(address in network for network in self._networks)

    def has_signature(self, headers: Sequence[tuple[str, bytes]]) -> bool:
        """Whether there is a signature for a verifier of `late`, of any value, so that the body is worth receiving."""
        signatures = self._signatures
        if signatures is None:
            return True
        for name, _ in headers:  # noqa: SIM110 - a third of the time of `any`, for each signed request
            if name in signatures:
                return True
        return False

    def max_buffered_size(self, head: Head, *, verified: bool) -> int:
        """Return the maximum size in bytes of a body that is received as a whole; a larger one is streamed.

        `verified`: whether the sender was verified without the body.
        """
        if not (verified or len(self.streaming) == len(self.late)):
            return limits.MAX_BODY_BYTES
        whole = is_parsed_whole(head.content_type) or head.compressed
        return limits.MAX_BODY_BYTES if whole and not self.raw else limits.STREAMED_BODY_BYTES

    def splits_multipart(self, head: Head) -> bool:
        """Whether a streamed body is scanned for multipart parts; a compressed one is stored unchanged."""
        multipart = parse_content_type(head.content_type).essence.startswith("multipart/")
        return multipart and not self.raw and not head.compressed

    def max_body_size(self, headers: Sequence[tuple[str, bytes]], *, verified: bool) -> int:
        """Return the maximum size in bytes of a body.

        A body that no verifier can process while it arrives has to fit into memory. One that must be parsed to be
        verified has to be parsed quickly. A verifier whose signature is absent verifies nothing.

        Args:
            headers: lower-case names and values.
            verified: whether the sender was verified without the body.
        """
        if verified:
            return self.max_body
        names = {name for name, _ in headers}
        able = [each for each in self.late if not each.required_headers or names & each.required_headers]
        if any(verifier in self.streaming for verifier in able):
            return self.max_body
        return self.max_unverified_json if all(verifier.reads_json for verifier in able) else self.max_parsed

    def dedupe_key(
        self,
        verified: tuple[Verifier, Match],
        request: RequestView,
        view: Mapping[str, Any] | None,
        content: ParsedContent = EMPTY,
    ) -> str:
        """Return the dedupe key, by which a repeated delivery of this request is recognised, or an empty string.

        A key is scoped to one kind of `auth`, and to one name in certificates. So a sender with the credentials of one
        partner can't make another partner's events look like repeated ones, nor can that happen by chance.

        Args:
            verified: the verifier that passed, whose provider may number its deliveries, and its match.
            request: the request as received.
            view: the value of `.`; not None when `needs_view`.
            content: the parsed body; CloudEvents have IDs of their own.
        """
        verifier, match = verified
        key = self._key(verifier, request, view, content)
        if not key:
            return ""
        if match.scheme == MtlsAuth.kind:
            key = f"{match.secret}\n{key}"
        return bounded_dedupe_key(self._namespaces[verifier] + key)

    def _key(
        self, verifier: Verifier, request: RequestView, view: Mapping[str, Any] | None, content: ParsedContent
    ) -> str:
        if self.dedupes_by_delivery_id:
            return verifier.delivery_id(request) or event_identity(content.body) or ""
        if self._dedupe is None:
            return ""
        return self._dedupe.of_view(view) if content.dedupe is None else content.dedupe

    def order_key_of(self, view: Mapping[str, Any] | None, content: ParsedContent) -> str:
        """Return the order key of an event, or an empty string; see `dedupe_key` for the arguments."""
        if self.order_key is None:
            return ""
        return self.order_key.of_view(view) if content.order_key is None else content.order_key

    def attributes_of(self, view: Mapping[str, Any] | None, content: ParsedContent) -> Attributes:
        """Return the search attributes of an event; see `dedupe_key` for the arguments."""
        if self.search is None:
            return ()
        return self.search.of_view(view) if content.attributes is None else content.attributes


class FlowEndpoints:
    """The endpoints of one flow."""

    __slots__ = ("_callbacks", "_one_time", "_subpaths", "flow_id", "own", "revision", "secret_names")

    def __init__(
        self,
        flow_id: str,
        webhook: Webhook,
        secrets: Mapping[str, bytes],
        revision: int,
        *,
        keys: KeyRules = NO_KEYS,
    ) -> None:
        self.flow_id = flow_id
        self.revision = revision  # registry revision that these endpoints are at least as new as
        self.secret_names = webhook.secret_names()  # secrets whose change invalidates these endpoints
        self.own = CompiledEndpoint(flow_id, webhook, secrets, keys=keys)  # endpoint of the flow's own URL
        self._subpaths = webhook.subpaths
        self._callbacks = {
            name: CompiledEndpoint(flow_id, callback, secrets, callback=name)
            for name, callback in webhook.callbacks.items()
            if not callback.only_one_time
        }
        self._one_time = {
            name: CompiledEndpoint(flow_id, callback, secrets, callback=name, one_time=True)
            for name, callback in webhook.callbacks.items()
        }

    def all(self) -> list[CompiledEndpoint]:
        """Return all endpoints that have credentials of their own: all but the one-time URLs."""
        return [self.own, *self._callbacks.values()]

    def at_suffix(self, suffix: str) -> CompiledEndpoint | None:
        """Return the endpoint at a percent-encoded suffix of the flow's URL; None if absent.

        Names of callbacks take precedence over `subpaths`, so that no URL changes its meaning with what follows it.
        """
        name, slash, _ = suffix.partition("/")
        if name in self._one_time:
            return self._one_time[name] if slash else self._callbacks.get(name)
        return self.own if self._subpaths else None


def _signature_headers(verifiers: Sequence[Verifier]) -> frozenset[str] | None:
    """Return the headers that may contain a signature; None: one of the verifiers needs no certain header."""
    names = [verifier.required_headers for verifier in verifiers]
    return frozenset[str]().union(*names) if all(names) else None


def _namespaces(verifiers: Sequence[Verifier]) -> dict[Verifier, str]:
    """Return the prefix of the dedupe keys of each kind of `auth`.

    The prefix is the name of the kind, with a number where several have the same name. It is not the secret's name,
    which changes while the secret is rotated.
    """
    names: Counter[str] = Counter()
    namespaces = {}
    for verifier in verifiers:
        names[verifier.scheme] += 1
        number = names[verifier.scheme]
        namespaces[verifier] = f"{verifier.scheme}:" if number == 1 else f"{verifier.scheme}.{number}:"
    return namespaces


def bounded_dedupe_key(key: str) -> str:
    """Return a dedupe key that is short enough to be stored: the key itself, or its hash."""
    encoded = key.encode("utf-8", "replace")
    if len(encoded) <= limits.MAX_DEDUPE_KEY_BYTES:
        return encoded.decode()
    return "sha256:" + hashlib.sha256(encoded).hexdigest()
