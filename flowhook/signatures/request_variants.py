"""Variants of a refused request: what its sender may have signed or meant, each with an explanation for operators."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import orjson

from flowhook import limits
from flowhook.errors import InvalidError
from flowhook.payloads.content_encoding import decompress
from flowhook.signatures.types import RequestView, Verifier

MAX_BODY_BYTES: Final = 256 * limits.KIB
"""Largest body of which variants are tried."""

MAX_HOSTS: Final = 4
"""Hosts that a URL is tried with, including its own: a sender can repeat the headers that name them."""

MAX_REWRITTEN_BYTES: Final = 16 * 1024
"""Largest JSON that is serialised again: the usual size of an event, and a few milliseconds of work."""

MAX_REWRITTEN_DEPTH: Final = 32
"""Deepest JSON that is serialised again."""

MAX_SIGNATURES: Final = 2
"""Header fields with a signature that are tried in other encodings."""

_GZIP: Final = b"\x1f\x8b"
_PREFIX: Final = re.compile(rb"[A-Za-z0-9_]{1,10}[=:,](?=[A-Za-z0-9+/_-])")
_HEX: Final = re.compile(rb"(?:[0-9A-Fa-f]{2}){20,64}")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{27,86}={0,2}")
_ENCODERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "hex": lambda digest: digest.hex().encode(),
    "base64": b64encode,
    "base64url": urlsafe_b64encode,
}


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
    tag: bytes | None = getattr(verifier, "signature_tag", None)
    names = verifier.required_headers if tag is not None else frozenset[str]()
    places = [index for index, (name, _) in enumerate(request.headers) if name in names]
    for index in places[:MAX_SIGNATURES]:
        name, sent = request.headers[index]
        found, digest = _digest(_PREFIX.sub(b"", sent, count=1))
        for encode in _ENCODERS.values() if digest else ():
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
    if _BASE64.fullmatch(text):
        with suppress(Base64Error):
            text = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
            return "base64", b64decode(text + b"=" * (-len(text) % 4))
    return "", b""


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
    yield from _rewritten_forms(request)
    yield from _rewritten_json(body)


def _rewritten_forms(request: RequestView) -> Iterator[tuple[str, bytes]]:
    if any(name == "content-type" and b"x-www-form-urlencoded" in value.lower() for name, value in request.headers):
        form = "a proxy parsed the form and wrote it again: forward bodies unchanged"
        yield form, request.body.replace(b"%20", b"+")
        yield form, request.body.replace(b"+", b"%20")


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
            text = write(value)
        except (TypeError, ValueError):
            continue
        yield f"it passes with its JSON {form}: a proxy parsed it and wrote it again; forward bodies unchanged", text


def _is_deeper(value: Any, depth: int) -> bool:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(depth == 0 or _is_deeper(member, depth - 1) for member in members)


_WRITERS: Final[tuple[tuple[str, Callable[[Any], bytes]], ...]] = (
    ("without spaces", orjson.dumps),
    ("with spaces, and escapes for what is not ASCII", lambda value: json.dumps(value).encode()),
    ("with spaces", lambda value: json.dumps(value, ensure_ascii=False).encode()),
    (
        "without spaces, and with escapes for what is not ASCII",
        lambda value: json.dumps(value, separators=(",", ":")).encode(),
    ),
    (
        "without spaces, in the order of its keys",
        lambda value: json.dumps(value, separators=(",", ":"), sort_keys=True).encode(),
    ),
    ("indented by 2", lambda value: json.dumps(value, indent=2).encode()),
    ("indented by 4", lambda value: json.dumps(value, indent=4).encode()),
    ("without spaces, and with escaped slashes", lambda value: orjson.dumps(value).replace(b"/", b"\\/")),
)
"""Common serialisations of JSON, described."""
