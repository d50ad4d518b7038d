"""Verifies the senders of requests: what is common to requests that arrive and to those that are verified again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from edge.http.head import Head
from edge.webhook.compiled_endpoints import CompiledEndpoint
from edge.webhook.key_cache import KeyCache
from flowhook.http.forwarded import Address, TrustedProxies
from flowhook.sandbox import INLINE_BYTES
from flowhook.sharing import Principal
from flowhook.sharing.addresses import address_principal
from flowhook.signatures import JsonBody, Match, RequestView, SignatureError, Verifier

Outcome = tuple[Verifier, Match] | SignatureError
"""Outcome of verification: the verifier that passed and its match, or the reason why none passed."""


class RequestViews:
    """Makes views of requests as their senders sent them, from what the edge received."""

    def __init__(self, proxies: TrustedProxies | None, public_url: str) -> None:
        """Let `proxies` report the sender and the URL; the part of URLs before the path is `public_url`, if given."""
        self._proxies = proxies or None
        self._public_url = public_url.rstrip("/")

    def principal(self, address: Address) -> Principal:
        """Return the owner of a sender's address. A proxy that is trusted stands for many senders."""
        trusted = self._proxies is not None and self._proxies.trusts(address)
        return address_principal(address)._replace(essential=trusted)

    def view(
        self, head: Head, address: Address, scheme: str, client_names: tuple[str, ...]
    ) -> tuple[Address, RequestView]:
        """Return the sender's address, and the request as input for verification, without its body.

        Args:
            head: head of the request.
            address: address of the peer.
            scheme: scheme of the connection, `http` or `https`.
            client_names: names in the client certificate.
        """
        host = head.host
        if self._proxies is not None:
            address, scheme, behind = self._proxies.origin(address, scheme, head.headers)
            host = behind or host
        url = f"{self._public_url or f'{scheme}://{host}'}{head.target}"
        return address, RequestView(head.method, url, head.path, head.query, head.headers, b"", client_names)


def check(verifiers: Sequence[Verifier], request_view: RequestView, now: float) -> Outcome:
    """Return the match of the first verifier that passes, or the most specific refusal."""
    worst: SignatureError | None = None
    for verifier in verifiers:
        try:
            return verifier, verifier.verify(request_view, now)
        except SignatureError as error:
            if worst is None or error.specificity > worst.specificity:
                worst = error
    return worst or SignatureError("no kind of `auth` is configured", reason="CREDENTIALS_MISSING")


async def check_with_body(
    endpoint: CompiledEndpoint, request_view: RequestView, keys: KeyCache, now: float
) -> tuple[RequestView, Outcome]:
    """Verify a request by its parsed body and fetched keys; return it with these, and the outcome."""
    if endpoint.reads_json:
        request_view = await with_json(request_view, JsonBody(endpoint.max_unverified_json))
    if endpoint.late_keyed:
        request_view = await keys.add(request_view, endpoint.late_keyed)
    if len(request_view.body) <= INLINE_BYTES:
        return request_view, check(endpoint.late, request_view, now)
    return request_view, await asyncio.to_thread(check, endpoint.late, request_view, now)


async def with_json(request_view: RequestView, body: JsonBody) -> RequestView:
    """Return a request whose body is parsed as JSON only once; a large one is parsed in a thread."""
    if len(request_view.body) > INLINE_BYTES:
        await asyncio.to_thread(body.of, request_view.body)
    return request_view._replace(json=body)


def most_specific(*outcomes: Outcome | None) -> SignatureError:
    """Return the refusal that says most about the cause."""
    return max((each for each in outcomes if isinstance(each, SignatureError)), key=lambda each: each.specificity)
