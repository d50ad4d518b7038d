"""Diagnoses for the operator why a signature does not match; the sender receives nothing of it.

A refused request is verified again with the usual differences between what was signed and what arrived: the URL behind
a proxy, a body that was parsed and serialised again on the way, a secret of another URL. The variant that passes is the
reason.

The sender of a wrong signature chooses the input: the body, and the headers that name other URLs. So all variants share
one budget of hashed bytes, and the variants of a body are bounded as well: in nested arrays, for example, indentation
grows with the square of the size. This still takes too long for an event loop: call it in a thread, and bound the
number of concurrent calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import orjson

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.payloads.content_encoding import decompress
from flowhook.signatures.json_body import reads_json
from flowhook.signatures.no_auth import NoAuthVerifier
from flowhook.signatures.types import RequestView, SignatureError, Verifier

MAX_HASHED_BYTES: Final = 16 * limits.MIB
"""Bytes of content that one diagnosis hashes for all variants: some 40 ms of work."""

TRIAL_BYTES: Final = 16 * limits.KIB
"""Hashed bytes that each comparison of a signature counts as, in addition to its content: about as much work."""

READING: Final = 32
"""Ratio of the time to parse JSON to the time to hash it."""

MAX_HOSTS: Final = 4
"""Hosts that a URL is tried with, including its own: a sender can repeat the headers that name them."""

MAX_BODY_BYTES: Final = 256 * limits.KIB
"""Largest body of which variants are tried."""

MAX_REWRITTEN_BYTES: Final = 16 * 1024
"""Largest JSON that is serialised again: the usual size of an event, and a few milliseconds of work."""

MAX_REWRITTEN_DEPTH: Final = 32
"""Deepest JSON that is serialised again."""

MAX_OTHERS: Final = 50
"""Other URLs whose secrets are tried."""

NamedVerifiers = tuple[str, Sequence[Verifier]]
"""Name of a URL for operators, and its verifiers."""


class _BudgetExhausted(Exception):  # noqa: N818 - an end, not an error
    """The budget is used up."""


class _VariantBudget:
    """Verifies variants of a request within a budget."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._left = MAX_HASHED_BYTES

    def passes(self, verifiers: Sequence[Verifier], request: RequestView) -> bool:
        """Whether one of the verifiers accepts a request.

        Raises:
            _BudgetExhausted: the budget does not suffice to find out.
        """
        for verifier in verifiers:
            if verifier.scheme == NoAuthVerifier.scheme:
                continue
            self._left -= _effort(verifier, request)
            if self._left < 0:
                raise _BudgetExhausted
            with suppress(SignatureError):
                verifier.verify(request, self._now)
                return True
        return False


def _effort(verifier: Verifier, request: RequestView) -> int:
    """Return the maximum work of verifying a request, in hashed bytes."""
    keys: int = getattr(verifier, "keys", 1)
    comparisons: int = getattr(verifier, "comparisons", 1)
    readings = READING if reads_json(verifier) else 0
    return (keys + readings) * len(request.body) + keys * comparisons * TRIAL_BYTES


def diagnose(
    verifiers: Sequence[Verifier], request: RequestView, now: float, others: Iterable[NamedVerifiers] = ()
) -> str:
    """Return an explanation of what would have made the request pass; empty if nothing is found.

    Args:
        verifiers: those that refused the request.
        request: as it was verified.
        now: Unix time in seconds.
        others: further URLs, the flow's own first, whose secrets the sender may have used.
    """
    try:
        return _reason(_VariantBudget(now), verifiers, request, others)
    except _BudgetExhausted:
        return ""


def _reason(
    trials: _VariantBudget, verifiers: Sequence[Verifier], request: RequestView, others: Iterable[NamedVerifiers]
) -> str:
    of_url = [verifier for verifier in verifiers if getattr(verifier, "signs_url", False)]
    for hint, variant in _urls(request) if of_url else ():
        if trials.passes(of_url, variant):
            return hint
    of_body = [verifier for verifier in verifiers if getattr(verifier, "signs_body", False)]
    if of_body and len(request.body) <= MAX_BODY_BYTES:
        for hint, body in body_variants(request):
            if body != request.body and trials.passes(of_body, request._replace(body=body)):
                return hint
    for name, those in islice(others, MAX_OTHERS):
        if trials.passes(those, request):
            return f"it passes with the credentials of {name}: the sender has the wrong secret, or calls the wrong URL"
    return ""


def _urls(request: RequestView) -> Iterator[tuple[str, RequestView]]:
    """Yield the request with other URLs that it may have been sent to, each with an explanation."""
    try:
        url = urlsplit(request.url)
        port = url.port
    except ValueError:
        return
    hosts = {url.netloc: ""}
    if port is not None and url.hostname:
        hosts.setdefault(url.hostname, ", without the port")
    for name, value in request.headers:
        if name in ("x-forwarded-host", "x-original-host") and len(hosts) < MAX_HOSTS:
            hosts.setdefault(value.decode("latin-1").split(",")[0].strip(), ", at the host that a proxy names")
    paths = {url.path: ""}
    paths.setdefault(url.path.rstrip("/"), ", without the slash at its end")
    paths.setdefault(f"{url.path.rstrip('/')}/", ", with a slash at its end")
    for scheme in ("https", "http"):
        for host, at_host in hosts.items():
            for path, at_path in paths.items():
                variant = urlunsplit((scheme, host, path, url.query, ""))
                if variant != request.url:
                    hint = f"it was signed for a {scheme} URL{at_host}{at_path}: set --public-url to what senders use"
                    yield hint, request._replace(url=variant)


def body_variants(request: RequestView) -> Iterator[tuple[str, bytes]]:
    """Yield other bodies that may have been signed, each with an explanation."""
    body = request.body
    line_ends = "a proxy changed its line ends or its last line"
    for variant in (body.rstrip(b"\r\n"), body + b"\n", body + b"\r\n", body.replace(b"\r\n", b"\n")):
        yield line_ends, variant
    yield line_ends, body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    yield "a byte order mark was added on the way", body.removeprefix(b"\xef\xbb\xbf")
    codings = ", ".join(value.decode("latin-1") for name, value in request.headers if name == "content-encoding")
    if codings:
        with suppress(InvalidError):
            yield "the sender signs the body before it compresses it", decompress(body, codings, MAX_BODY_BYTES)
    if len(body) > MAX_REWRITTEN_BYTES:
        return
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    if _is_deeper(value, MAX_REWRITTEN_DEPTH):
        return
    for write in _WRITERS:
        try:
            text = write(value)
        except (TypeError, ValueError):
            continue
        yield "a proxy parsed the JSON and wrote it again: forward bodies unchanged", text


def _is_deeper(value: Any, depth: int) -> bool:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(depth == 0 or _is_deeper(member, depth - 1) for member in members)


_WRITERS: Final[tuple[Callable[[Any], bytes], ...]] = (
    orjson.dumps,
    lambda value: json.dumps(value).encode(),
    lambda value: json.dumps(value, ensure_ascii=False).encode(),
    lambda value: json.dumps(value, separators=(",", ":")).encode(),
    lambda value: json.dumps(value, separators=(",", ":"), sort_keys=True).encode(),
    lambda value: json.dumps(value, indent=2).encode(),
    lambda value: json.dumps(value, indent=4).encode(),
    lambda value: orjson.dumps(value).replace(b"/", b"\\/"),
)
"""Common serialisations of JSON."""
