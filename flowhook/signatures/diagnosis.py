"""Diagnoses for the operator why a signature does not match; the sender receives nothing of it.

A refused request is verified again with the usual differences between what was signed and what arrived: the URL behind
a proxy, a body that was parsed and serialised again on the way, a secret of another URL. The variant that passes is the
reason.

So are the usual mistakes of operators: a line break at the end of a secret, a key in base64 that is taken as text, a
signature in another encoding.

The sender of a wrong signature chooses the input: the body, and the headers that name other URLs. So all variants share
one budget of hashed bytes, and the variants of a body are bounded as well: in nested arrays, for example, indentation
grows with the square of the size. This still takes too long for an event loop: call it in a thread, and bound the
number of concurrent calls.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import orjson

from flowhook import limits
from flowhook.document.models.credentials import AuthKind
from flowhook.errors import InvalidError
from flowhook.payloads.content_encoding import decompress
from flowhook.signatures.build import build_verifiers
from flowhook.signatures.credentials import NoAuthVerifier
from flowhook.signatures.keys import ENCODERS, decode_text
from flowhook.signatures.types import RequestView, SignatureError, Verifier

MAX_BODY_BYTES: Final = 256 * limits.KIB  # largest body of which variants are tried
# Hosts that a URL is tried with, including its own: a sender can repeat the headers that name them.
MAX_HOSTS: Final = 4
# Largest JSON that is serialised again: the usual size of an event, and a few milliseconds of work.
MAX_REWRITTEN_BYTES: Final = 16 * 1024
MAX_REWRITTEN_DEPTH: Final = 32  # deepest JSON that is serialised again
MAX_SIGNATURES: Final = 2  # header fields with a signature that are tried in other encodings
_GZIP: Final = b"\x1f\x8b"
_PREFIX: Final = re.compile(rb"[A-Za-z0-9_]{1,10}[=:,](?=[A-Za-z0-9+/_-])")
_HEX: Final = re.compile(rb"(?:[0-9A-Fa-f]{2}){20,64}")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{27,86}={0,2}")


def url_variants(request: RequestView) -> Iterator[tuple[str, RequestView]]:
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


def signature_variants(request: RequestView, verifier: Verifier) -> Iterator[tuple[str, RequestView]]:
    """Yield the request with its signature as the verifier expects it, in each encoding, each with an explanation."""
    tag = verifier.signature_tag
    names = verifier.required_headers if tag is not None else frozenset[str]()
    places = [index for index, (name, _) in enumerate(request.headers) if name in names]
    for index in places[:MAX_SIGNATURES]:
        name, sent = request.headers[index]
        found, digest = _digest(_PREFIX.sub(b"", sent, count=1))
        for encode in ENCODERS.values() if digest else ():
            written = (tag or b"") + encode(digest)
            if written != sent:
                headers = [*request.headers[:index], (name, written), *request.headers[index + 1 :]]
                hint = (
                    f"the signature is right, but the sender writes it in another form, in {found}: correct `encoding`"
                    " and `prefix` of the flow's `auth`, or choose the sender's provider there"
                )
                yield hint, request._replace(headers=headers)


def _digest(text: bytes) -> tuple[str, bytes]:
    """Return the encoding of a digest and its bytes, empty if it is none."""
    if _HEX.fullmatch(text):
        return "hex", bytes.fromhex(text.decode())
    digest = decode_text(text.translate(bytes.maketrans(b"-_", b"+/")), "base64") if _BASE64.fullmatch(text) else None
    return ("base64", digest) if digest else ("", b"")


def body_variants(request: RequestView) -> Iterator[tuple[str, bytes]]:
    """Yield other bodies that may have been signed, each with an explanation."""
    body = request.body
    line_ends = "a proxy changed its line ends or its last line: forward bodies unchanged"
    for variant in (body.rstrip(b"\r\n"), body + b"\n", body + b"\r\n", body.replace(b"\r\n", b"\n")):
        yield line_ends, variant
    yield line_ends, body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    yield "a byte order mark was added on the way", body.removeprefix(b"\xef\xbb\xbf")
    codings = ", ".join(value.decode("latin-1") for name, value in request.headers if name == "content-encoding")
    if codings or body.startswith(_GZIP):
        compressed = "the sender signs the body before it compresses it, or a proxy compresses it: switch that off"
        with suppress(InvalidError):
            yield compressed, decompress(body, codings or "gzip", MAX_BODY_BYTES)
    if not body.isascii():
        charset = "a proxy changed the character encoding: forward bodies unchanged"
        with suppress(UnicodeError):
            yield charset, body.decode("utf-8").encode("latin-1")
        yield charset, body.decode("latin-1").encode("utf-8")
    if any(name == "content-type" and b"x-www-form-urlencoded" in value.lower() for name, value in request.headers):
        form = "a proxy parsed the form and wrote it again: forward bodies unchanged"
        yield form, body.replace(b"%20", b"+")
        yield form, body.replace(b"+", b"%20")
    yield from _rewritten_json(body)


def _rewritten_json(body: bytes) -> Iterator[tuple[str, bytes]]:
    if len(body) > MAX_REWRITTEN_BYTES:
        return
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    if _is_deeper(value, MAX_REWRITTEN_DEPTH):
        return
    for form, write in _WRITERS:
        try:
            written = write(value)
            text = written.encode() if isinstance(written, str) else written
        except (TypeError, ValueError):
            continue
        yield f"it passes with its JSON {form}: a proxy parsed it and wrote it again; forward bodies unchanged", text


def _is_deeper(value: Any, depth: int) -> bool:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(depth == 0 or _is_deeper(member, depth - 1) for member in members)


_COMPACT: Final = (",", ":")
_WRITERS: Final[tuple[tuple[str, Callable[[Any], bytes | str]], ...]] = (
    ("without spaces", orjson.dumps),
    ("with spaces, and escapes for what is not ASCII", json.dumps),
    ("with spaces", partial(json.dumps, ensure_ascii=False)),
    ("without spaces, and with escapes for what is not ASCII", partial(json.dumps, separators=_COMPACT)),
    ("without spaces, in the order of its keys", partial(json.dumps, separators=_COMPACT, sort_keys=True)),
    ("indented by 2", partial(json.dumps, indent=2)),
    ("indented by 4", partial(json.dumps, indent=4)),
    ("without spaces, and with escaped slashes", lambda value: orjson.dumps(value).replace(b"/", b"\\/")),
)
"""Common serialisations of JSON, described."""


_WHSEC: Final = b"whsec_"
_HEX_SECRET: Final = re.compile(rb"(?:[0-9A-Fa-f]{2}){8,}")


def _from_base64(secret: bytes) -> bytes:
    with suppress(binascii.Error):
        return b64decode(secret.removeprefix(_WHSEC), validate=True)
    return b""


_READINGS: Final[tuple[tuple[str, Callable[[bytes], bytes]], ...]] = (
    (
        "it passes with the secret without the spaces, line breaks or quotes around it: set it again without them",
        lambda secret: secret.strip(b" \t\r\n\"'"),
    ),
    (
        "it passes with the secret without its prefix whsec_: set the secret again without it",
        lambda secret: secret.removeprefix(_WHSEC),
    ),
    ("it passes with the bytes that the secret holds in base64: set `key: {encoding: base64}` beside it", _from_base64),
    (
        "it passes with the bytes that the secret holds in hexadecimal: set `key: {encoding: hex}` beside it",
        lambda secret: bytes.fromhex(secret.decode()) if _HEX_SECRET.fullmatch(secret) else b"",
    ),
)
"""Explanations for operators, and what each makes of a secret; empty: nothing."""


class SecretVariants:
    """The secrets of one URL, read otherwise. Its repr contains none of them."""

    __slots__ = ("_auth", "_secrets")

    def __init__(self, auth: Sequence[AuthKind], secrets: Mapping[str, bytes]) -> None:
        names = {name for kind in auth for name in kind.secret_names}
        self._auth = auth
        self._secrets = {name: value for name, value in secrets.items() if name in names}

    def __iter__(self) -> Iterator[tuple[str, Sequence[Verifier]]]:
        """Yield an explanation and the verifiers for each reading that differs. Blocks: they are made anew."""
        for hint, read in _READINGS:
            changed = {
                name: other for name, value in self._secrets.items() if (other := read(value)) not in (b"", value)
            }
            if changed:
                yield hint, build_verifiers(self._auth, {**self._secrets, **changed})


# Bytes of content that one diagnosis hashes for all variants: some 40 ms of work.
MAX_HASHED_BYTES: Final = 16 * limits.MIB
# Hashed bytes that each comparison of a signature counts as, in addition to its content: about as much work.
TRIAL_BYTES: Final = 16 * limits.KIB
READING: Final = 32  # ratio of the time to parse JSON to the time to hash it
MAX_OTHERS: Final = 50  # other URLs whose secrets are tried

# Name of a URL for operators, and its verifiers; or what they have in place of the right ones, as an explanation.
NamedVerifiers = tuple[str, Sequence[Verifier]]

# Reasons of refusals that a diagnosis may explain; the detail of the others is the cause.
DIAGNOSED: Final = frozenset({"SIGNATURE_MISMATCH", "SIGNATURE_MALFORMED", "CREDENTIALS_WRONG"})


class _BudgetExhausted(Exception):  # noqa: N818 - an end, not an error
    """The budget is used up."""


class _VariantBudget:
    """Verifies variants of a request within a budget."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._left = MAX_HASHED_BYTES

    def passes(self, verifiers: Sequence[Verifier], request: RequestView) -> bool:
        """Whether one of the verifiers accepts a request; _BudgetExhausted: the budget does not suffice to find out."""
        for verifier in verifiers:
            if verifier.scheme == NoAuthVerifier.scheme:
                continue
            readings = READING if verifier.reads_json else 0
            self._left -= (verifier.keys + readings) * len(request.body)
            self._left -= verifier.keys * verifier.comparisons * TRIAL_BYTES
            if self._left < 0:
                raise _BudgetExhausted
            with suppress(SignatureError):
                verifier.verify(request, self._now)
                return True
        return False


def diagnose(
    verifiers: Sequence[Verifier],
    request: RequestView,
    now: float,
    others: Iterable[NamedVerifiers] = (),
    readings: Iterable[NamedVerifiers] = (),
) -> str:
    """Return an explanation of what would have made the request pass; empty if nothing is found.

    `verifiers` refused the request; `readings` are the same ones with their secrets read otherwise (`SecretVariants`);
    `others` are of further URLs, the flow's own first, whose secrets the sender may have used.
    """
    budget = _VariantBudget(now)
    with suppress(_BudgetExhausted):
        for hint, those, variant in chain(_of_request(verifiers, request), _of_secrets(request, others, readings)):
            if budget.passes(those, variant):
                return hint
    return ""


# An explanation, and the verifiers and the request of which it is one if they pass.
_Trial = tuple[str, Sequence[Verifier], RequestView]


def _of_request(verifiers: Sequence[Verifier], request: RequestView) -> Iterator[_Trial]:
    of_url = [verifier for verifier in verifiers if verifier.signs_url]
    for hint, variant in url_variants(request) if of_url else ():
        yield hint, of_url, variant
    for verifier in verifiers:
        for hint, variant in signature_variants(request, verifier):
            yield hint, [verifier], variant
    of_body = [verifier for verifier in verifiers if verifier.signs_body]
    if of_body and len(request.body) <= MAX_BODY_BYTES:
        for hint, body in body_variants(request):
            if body != request.body:
                yield hint, of_body, request._replace(body=body)


def _of_secrets(
    request: RequestView, others: Iterable[NamedVerifiers], readings: Iterable[NamedVerifiers]
) -> Iterator[_Trial]:
    for hint, those in readings:
        yield hint, those, request
    for name, those in islice(others, MAX_OTHERS):
        hint = f"it passes with the credentials of {name}: the sender has the wrong secret, or calls the wrong URL"
        yield hint, those, request
