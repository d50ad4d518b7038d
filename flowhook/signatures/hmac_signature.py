"""Signatures by HMAC: verification and signing of every `Scheme`. Source: RFC 2104."""

from __future__ import annotations

import hmac
import secrets as random
from collections.abc import Mapping
from typing import Final

from flowhook.document.auth import AuthKind
from flowhook.document.signed_content import ContentPart
from flowhook.errors import InvalidError
from flowhook.signatures.content import Chunks, compile_content
from flowhook.signatures.delivery import header_value, json_field
from flowhook.signatures.encodings import Encoding
from flowhook.signatures.headers import single_header
from flowhook.signatures.keys import first_secret, make_key, make_keyring
from flowhook.signatures.scheme import HeaderNames, Layout, Scheme
from flowhook.signatures.timestamps import check_timestamp, format_timestamp
from flowhook.signatures.types import Match, RequestView, SignatureError

MAX_HEADER_BYTES: Final = 4096
"""Longest signature header that is looked at; eight SHA-512 signatures in hex take less than half."""

MAX_CANDIDATES: Final = 16
"""Signatures in one header that are compared."""


class HmacVerifier:
    """Verifies one `Scheme`. Costs one hash of the content per secret, whatever the header holds."""

    needs_body = True
    credential_query: frozenset[str] = frozenset()
    challenge = None

    def __init__(self, scheme: Scheme, kind: AuthKind, secrets: Mapping[str, bytes]) -> None:
        self.scheme = scheme.name
        self._names = [_lower(names) for names in scheme.headers]
        self.credential_headers = frozenset(
            [names.signature for names in self._names] + [name.lower() for name in scheme.also_stripped]
        )
        self._layout = scheme.layout
        self._tag = scheme.tag.encode()
        self._encoding = Encoding(scheme.encoding, scheme.algorithm)
        self._unit = scheme.unit
        self._tolerance = scheme.tolerance
        self._read_content = compile_content(scheme.content)
        self._covers_body = ContentPart("body") in scheme.content
        self._signs_id = ContentPart("id") in scheme.content
        self._delivery_header = scheme.delivery_header.lower() if scheme.delivery_header else None
        self._delivery_field = scheme.delivery_field
        # The key's pads are hashed once, here; each request starts from a copy of that state.
        self._keyring = make_keyring(
            kind, secrets, lambda secret: hmac.new(make_key(secret, scheme.key), digestmod=scheme.algorithm)
        )

    def verify(self, request: RequestView, now: float) -> Match:
        """See `Verifier.verify`."""
        keyring = self._keyring
        if not keyring.entries:
            raise keyring.refusal("", "")
        names, sent = self._locate(request)
        candidates, timestamp = self._read_header(sent)
        if self._unit is not None:
            if names.timestamp is not None:
                timestamp = self._required(request, names.timestamp)
            check_timestamp(timestamp, self._unit, self._tolerance, now)
        message_id = self._required(request, names.id) if names.id is not None and self._signs_id else b""
        if not self._covers_body and request.body:
            raise SignatureError("the request has a body that the signature does not cover", reason="BODY_UNSIGNED")
        chunks = self._read_content(request, timestamp, message_id)
        encoding = self._encoding
        for name, keyed in keyring.entries:
            expected = encoding.normalize(encoding.encode(_digest(keyed, chunks)))
            for candidate in candidates:
                if hmac.compare_digest(candidate, expected):
                    return Match(self.scheme, name)
        if not any(encoding.is_well_formed(candidate) for candidate in candidates):
            raise self._malformed("holds no signature in the encoding it should have")
        raise keyring.refusal("the signature does not match: another secret, or another content", "SIGNATURE_MISMATCH")

    def delivery_id(self, request: RequestView) -> str | None:
        """See `Verifier.delivery_id`."""
        if self._delivery_field is not None:
            return json_field(request.body, self._delivery_field)
        if self._delivery_header is not None:
            return header_value(request.headers, self._delivery_header)
        for names in self._names:
            if names.id is not None and any(name == names.signature for name, _ in request.headers):
                return header_value(request.headers, names.id)
        return None

    def _locate(self, request: RequestView) -> tuple[HeaderNames, bytes]:
        for names in self._names:
            sent = single_header(request.headers, names.signature, kind="SIGNATURE")
            if sent is not None:
                return names, sent
        missing = " or ".join(names.signature for names in self._names)
        raise SignatureError(f"header {missing} is missing", reason="SIGNATURE_MISSING")

    def _required(self, request: RequestView, name: str) -> bytes:
        value = single_header(request.headers, name, kind="SIGNATURE")
        if not value:
            raise self._malformed(f"comes without header {name}")
        return value

    def _read_header(self, sent: bytes) -> tuple[list[bytes], bytes]:
        """Return the signatures, normalized, and the timestamp where it stands in the same header."""
        if len(sent) > MAX_HEADER_BYTES:
            raise self._malformed(f"is longer than {MAX_HEADER_BYTES} bytes")
        tag, timestamp = self._tag, b""
        if self._layout is Layout.WHOLE:
            found = [sent[len(tag) :]] if sent.startswith(tag) else []
        elif self._layout is Layout.LIST:
            found = [entry[len(tag) :] for entry in sent.split(b" ") if entry.startswith(tag)]
        else:
            pairs = [entry.partition(b"=")[::2] for entry in sent.split(b",")]
            found = [value for key, value in pairs if key == tag]
            timestamps = [value for key, value in pairs if key == b"t"]
            if len(timestamps) != 1:
                raise self._malformed(f"has {len(timestamps)} timestamps (t=)")
            timestamp = timestamps[0]
        if not 1 <= len(found) <= MAX_CANDIDATES:
            raise self._malformed(f"has {len(found)} signatures marked {self._tag.decode()!r}")
        normalized = [self._encoding.normalize(signature) for signature in found]
        candidates = [signature for signature in normalized if len(signature) == self._encoding.length]
        if not candidates:  # so that it costs no hash of the body
            raise self._malformed(f"holds no signature of {self._encoding.length} characters")
        return candidates, timestamp

    def _malformed(self, what: str) -> SignatureError:
        return SignatureError(f"the signature header {what}", reason="SIGNATURE_MALFORMED")


def sign_request(
    scheme: Scheme, kind: AuthKind, secrets: Mapping[str, bytes], request: RequestView, now: float
) -> list[tuple[str, str]]:
    """Return the headers that make a request pass `HmacVerifier`.

    Args:
        scheme: how to sign.
        kind: names the secrets.
        secrets: value by name.
        request: what will be sent; a timestamp or an ID among its headers is used, otherwise one is made.
        now: Unix time in seconds.

    Raises:
        InvalidError: no secret is set, or it can't be read (`SECRET_NOT_SET`, `SECRET_INVALID`); a header that is
            signed is not there (`HEADER_MISSING`).
    """
    names = scheme.headers[0]
    present = dict(request.headers)
    added: list[tuple[str, str]] = []

    def provide(name: str | None, value: str) -> bytes:
        if name is None:
            return value.encode()
        if name.lower() not in present:
            added.append((name, value))
            return value.encode()
        return present[name.lower()]

    timestamp = provide(names.timestamp, format_timestamp(now, scheme.unit)) if scheme.unit else b""
    message_id = provide(names.id, f"msg_{random.token_hex(16)}") if names.id else b""
    secret_name, secret = first_secret(kind, secrets)
    try:
        keyed = hmac.new(make_key(secret, scheme.key), digestmod=scheme.algorithm)
        complete = request._replace(headers=[*request.headers, *((n.lower(), v.encode()) for n, v in added)])
        chunks = compile_content(scheme.content)(complete, timestamp, message_id)
    except ValueError as error:
        raise InvalidError(f"secret {secret_name} {error}", reason="SECRET_INVALID") from None
    except SignatureError as error:
        raise InvalidError(error.detail, reason="HEADER_MISSING") from None
    signature = Encoding(scheme.encoding, scheme.algorithm).encode(_digest(keyed, chunks)).decode()
    if scheme.layout is Layout.PAIRS:
        value = f"t={timestamp.decode()},{scheme.tag}={signature}"
    else:
        value = f"{scheme.tag}{signature}"
    return [*added, (names.signature, value)]


def _digest(keyed: hmac.HMAC, chunks: Chunks) -> bytes:
    state = keyed.copy()
    for chunk in chunks:
        state.update(chunk)
    return state.digest()


def _lower(names: HeaderNames) -> HeaderNames:
    return HeaderNames(
        names.signature.lower(),
        names.timestamp.lower() if names.timestamp else None,
        names.id.lower() if names.id else None,
    )
