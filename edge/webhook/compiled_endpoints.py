"""Compiled endpoints of a flow: everything about its URLs that can be computed before a request arrives.

A flow has the URL `/hook/<flow>`. Each of its callbacks has a one-time URL `/hook/<flow>/<name>/<token>`, whose token
is its credential, and, unless the callback allows only that, `/hook/<flow>/<name>`. Each of the three is a
`CompiledEndpoint`. A flow may have a URL of its own, which then stands for `/hook/<flow>` in all of them as well.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple

import orjson

from edge.http import responses
from edge.http.head import Head
from edge.webhook.acceptance import CompiledAcceptance
from edge.webhook.answer_fields import OptionsRequests, compile_fields
from edge.webhook.configured_responses import ConfiguredResponse, FlowResponse
from edge.webhook.handshakes import Handshakes
from flowhook import limits
from flowhook.document.models.credentials import MtlsAuth
from flowhook.document.models.webhook import Callback, Webhook
from flowhook.events.ids import slot_of
from flowhook.events.keys import DedupeKey, EventKeys, KeyExpressions
from flowhook.events.workflow_input import webhook_view
from flowhook.expressions.paths import PathStep
from flowhook.model import Event
from flowhook.model.own_urls import below
from flowhook.payloads.content_type import parse_content_type
from flowhook.payloads.field_types import with_types
from flowhook.payloads.parsing import IDENTITY, Selection, event_identity, is_parsed_whole, selection_of
from flowhook.sharing.token_bucket import TokenBuckets
from flowhook.signatures.build import build_verifiers
from flowhook.signatures.diagnosis import SecretVariants
from flowhook.signatures.schemes import can_stream
from flowhook.signatures.types import MAX_JSON_BYTES, KeyedVerifier, Match, RequestView, Verifier

HOOKS: Final = "/hook/"  # what the paths of all flows begin with
MAX_SENDERS: Final = 10_000  # senders of one URL that have a rate of their own

HOP_BY_HOP: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("expect", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
"""Fields that apply to a single connection (RFC 9110, section 7.6.1)."""

# Fields that carry credentials, whatever authentication a flow requires.
CREDENTIALS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})

URLS: Final = frozenset(
    {"referer", "x-envoy-original-path", "x-forwarded-uri", "x-original-uri", "x-original-url", "x-rewrite-url"}
)
"""Fields in which proxies and browsers repeat the URL, and with it a credential that the URL contains."""


NO_KEYS: Final = KeyExpressions()


class ParsedContent(NamedTuple):
    """The parsed content of a body."""

    body: Any  # parsed value without attachments; for a large body, only the parts that the endpoint uses
    keys: EventKeys | None = None  # of a large body; None: to be evaluated from `body`
    dedupe: str | None = None  # text of the dedupe key of a large body; None: to be evaluated from `body`


EMPTY: Final = ParsedContent(None)


class CompiledEndpoint:
    """One compiled URL. `callback` is its name, empty for the URL of a flow.

    `one_time`: the last segment of the path is a token, the only credential that this URL requires. `own_host` is the
    host of the URL of the flow's own; empty: it says none.
    """

    def __init__(
        self,
        flow_id: str,
        webhook: Webhook | Callback,
        secrets: Mapping[str, bytes],
        *,
        callback: str = "",
        one_time: bool = False,
        keys: KeyExpressions = NO_KEYS,
        flow_revision: int = 0,
        own_host: str = "",
    ) -> None:
        self.flow_id, self.own_host, self.callback, self.one_time = flow_id, own_host, callback, one_time
        self.slot = slot_of(flow_id)  # for minting IDs
        self.raw = webhook.parse == "raw"  # whether bodies are stored unparsed
        self.fields = webhook.fields if isinstance(webhook, Webhook) else {}  # types of fields of forms and queries
        # identify the endpoint in a log line
        self.log_fields = {"flow": flow_id, "callback": callback} if callback else {"flow": flow_id}
        self.methods = frozenset[str](webhook.methods)
        self.not_allowed = responses.method_not_allowed(tuple(webhook.methods))
        self.max_body = webhook.max_body
        # maximum size of a body that is parsed, both as received and decompressed
        self.max_parsed = min(webhook.max_body, limits.MAX_BODY_BYTES)
        is_said = "max_body" in webhook.model_fields_set
        # maximum size of an unverified body that is parsed as JSON, if `reads_json`
        self.max_unverified_json = self.max_parsed if is_said else min(self.max_parsed, MAX_JSON_BYTES)
        self.schemes = ",".join(kind.kind for kind in webhook.auth)
        # what matches with a secret that is being rotated out: any but the first one of each kind
        self.previous_secrets = {Match(kind.kind, name) for kind in webhook.auth for name in kind.secret_names[1:]}
        self.asks = bool(webhook.auth) and not one_time  # whether any credentials are required
        self._networks = webhook.allow_from
        self._compile_verifiers(webhook, secrets)
        dedupe = webhook.dedupe
        deduplicates = dedupe.enabled and not one_time  # a repeated delivery finds the token used
        self.dedupes_by_delivery_id = deduplicates and dedupe.key is None
        self._dedupe = DedupeKey(dedupe.key) if deduplicates and dedupe.key is not None else None
        rate = webhook.sender_rate_limit
        self.sender_limiter: TokenBuckets | None = None
        if rate is not None:
            self.sender_limiter = TokenBuckets(per_second=rate.per_second, burst=rate.burst, most=MAX_SENDERS)
        self.options, self.answer_fields = OptionsRequests(webhook), compile_fields(webhook)
        accept = webhook.accept if isinstance(webhook, Webhook) else None
        # None: all is accepted, as for callbacks
        self.acceptance = None if accept is None else CompiledAcceptance(accept)
        self.stores_rejected_bodies = webhook.keep_rejected_bodies  # whether operators see those of refused requests
        self.handshakes = None if one_time else Handshakes(webhook.auth, secrets) or None
        # whether verified bodies are parsed as JSON separately, for handshakes or delivery IDs
        self.needs_json_body = self.handshakes is not None or (
            self.dedupes_by_delivery_id and any(verifier.delivery_in_json for verifier in self._namespaces)
        )
        self.response = ConfiguredResponse(webhook.respond)
        # responses of the flow itself, when senders wait for them
        self.flow = FlowResponse(webhook.respond) if webhook.respond.mode == "reply" else None
        self.keys, self.flow_revision = keys, flow_revision  # of the flow that defines them; callbacks have none
        # whether expressions read the event
        self.needs_view = self.response.needs_view or self._dedupe is not None or bool(keys)
        expression = None if self._dedupe is None else dedupe.key
        wanted = orjson.dumps([self._selection(), expression, keys.order_by, keys.search, keys.shaping])
        # what is needed of a large body, for `parse_large_body`; a copy, since a result of orjson holds 4 KiB
        self.wanted = bytes(memoryview(wanted))

    def _compile_verifiers(self, webhook: Webhook | Callback, secrets: Mapping[str, bytes]) -> None:
        only_one_time = isinstance(webhook, Callback) and webhook.only_one_time
        verifiers = build_verifiers(() if only_one_time else webhook.auth, secrets)
        self.secret_variants = SecretVariants(webhook.auth, secrets)  # other readings of its secrets, for diagnoses
        # names of parameters, and lower-case names of fields, that are not stored
        self.dropped_query = frozenset[str]().union(*(verifier.credential_query for verifier in verifiers))
        named = frozenset[str]().union(*(verifier.credential_headers for verifier in verifiers))
        self.dropped_headers = _dropped_headers(named, in_url=bool(self.dropped_query) or self.one_time)
        if self.one_time:
            verifiers = build_verifiers((), secrets)
        self._namespaces = _namespaces(verifiers)
        # those that need no body, and those that need it; of both, those whose keys are fetched
        self.early = [verifier for verifier in verifiers if not verifier.needs_body]
        self.late = [verifier for verifier in verifiers if verifier.needs_body]
        self.early_keyed = [verifier for verifier in self.early if isinstance(verifier, KeyedVerifier)]
        self.late_keyed = [verifier for verifier in self.late if isinstance(verifier, KeyedVerifier)]
        # those of `late` that can process a body while it arrives
        self.streaming = [verifier for verifier in self.late if can_stream(verifier)]
        # whether one of `late` parses bodies as JSON
        self.reads_json = any(verifier.reads_json for verifier in self.late)
        needed = [verifier.required_headers for verifier in self.late]
        # headers that may contain a signature; None: a verifier of `late` needs no certain one
        self._signatures = frozenset[str]().union(*needed) if all(needed) else None
        challenges = [verifier.challenge for verifier in verifiers if verifier.challenge is not None]
        self.unauthenticated = responses.unauthenticated(challenges[0] if challenges else None)

    def view(self, event: Event, body: Any) -> dict[str, Any]:
        """Return the value of `.` in expressions under `webhook`; `body` is None if not parsed."""
        view: dict[str, Any] = with_types(webhook_view(event, body), self.fields)
        return view

    def check_fields(self, event: Event, body: Any) -> None:
        """Raise InvalidError (`BODY_INVALID`) if a field of a form or of the query is not of its type."""
        if self.fields:
            with_types(webhook_view(event, body), self.fields, strict=True)

    def _selection(self) -> Selection:
        looked_at: list[Sequence[PathStep]] = [path[1:] for path in self.response.paths if path[:1] in ((), ("body",))]
        if self.dedupes_by_delivery_id and self.asks:
            looked_at += IDENTITY
        if self.handshakes is not None:
            looked_at += self.handshakes.paths
        return selection_of(looked_at)

    def admits(self, address: IPv4Address | IPv6Address) -> bool:
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
        """Return up to how many bytes a body, `verified` without it or not, is received as a whole, not streamed."""
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
        `view` is the value of `.`, not None when `needs_view`.
        """
        verifier, match = verified
        if self.dedupes_by_delivery_id:
            key = verifier.delivery_id(request) or ""
            if not key and self.asks:
                key = event_identity(content.body) or ""  # that of a CloudEvent
        elif self._dedupe is not None:
            key = self._dedupe.of_view(view) if content.dedupe is None else content.dedupe
        else:
            return ""
        if not key:
            return ""
        if match.scheme == MtlsAuth.kind:
            key = f"{match.secret}\n{key}"
        return bounded_dedupe_key(self._namespaces[verifier] + key)


class FlowEndpoints:
    """The endpoints of one flow."""

    def __init__(
        self,
        flow_id: str,
        webhook: Webhook,
        secrets: Mapping[str, bytes],
        revision: int,
        *,
        keys: KeyExpressions = NO_KEYS,
        flow_revision: int = 0,
    ) -> None:
        self.flow_id = flow_id
        self.revision = revision  # registry revision that these endpoints are at least as new as
        self.secret_names = webhook.secret_names()  # secrets whose change invalidates these endpoints
        self.own_url = webhook.own_url  # beside `/hook/<flow>`
        host = webhook.host or ""
        # endpoint of the flow's own URL
        self.own = CompiledEndpoint(flow_id, webhook, secrets, keys=keys, flow_revision=flow_revision, own_host=host)
        self._subpaths = webhook.subpaths
        self._callbacks = {
            name: CompiledEndpoint(flow_id, callback, secrets, callback=name, own_host=host)
            for name, callback in webhook.callbacks.items()
            if not callback.only_one_time
        }
        self._one_time = {
            name: CompiledEndpoint(flow_id, callback, secrets, callback=name, one_time=True, own_host=host)
            for name, callback in webhook.callbacks.items()
        }

    def all(self) -> list[CompiledEndpoint]:
        """Return all endpoints that have credentials of their own: all but the one-time URLs."""
        return [self.own, *self._callbacks.values()]

    def at(self, path: str) -> CompiledEndpoint | None:
        """Return the endpoint at the path of a request, below `/hook/<flow>` or the URL of the flow's own; or None."""
        own = self.own_url
        for root in (f"{HOOKS}{self.flow_id}", own.path if own else ""):
            if path == root:
                return self.own
            if root and path.startswith(below(root)):
                return self.at_suffix(path[len(below(root)) :])
        return None

    def at_suffix(self, suffix: str) -> CompiledEndpoint | None:
        """Return the endpoint at a percent-encoded suffix of the flow's URL; None if absent.

        Names of callbacks take precedence over `subpaths`, so that no URL changes its meaning with what follows it.
        """
        name, slash, _ = suffix.partition("/")
        if name in self._one_time:
            return self._one_time[name] if slash else self._callbacks.get(name)
        return self.own if self._subpaths else None


@lru_cache(256)  # most endpoints share one of a few sets
def _dropped_headers(credentials: frozenset[str], *, in_url: bool) -> frozenset[str]:
    return HOP_BY_HOP | CREDENTIALS | credentials | (URLS if in_url else frozenset())


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
        namespaces[verifier] = f"{verifier.scheme}.{number}:" if number > 1 else f"{verifier.scheme}:"
    return namespaces


def bounded_dedupe_key(key: str) -> str:
    """Return a dedupe key that is short enough to be stored: the key itself, or its hash."""
    encoded = key.encode("utf-8", "replace")
    if len(encoded) <= limits.MAX_DEDUPE_KEY_BYTES:
        return encoded.decode()
    return "sha256:" + hashlib.sha256(encoded).hexdigest()
