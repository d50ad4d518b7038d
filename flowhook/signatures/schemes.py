"""Verifies requests by any `Scheme`: finds the signature, reads it, and matches it against the content."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from itertools import chain
from typing import Any, Final, NamedTuple, TypeGuard

import attrs
from typing_extensions import override

from flowhook.document.models.credentials import AuthKind, HmacAuth, PublicKeyAuth
from flowhook.payloads.content_type import parse_content_type
from flowhook.providers.scheme import ContentPart, FieldLocation, FieldLocations, Scheme, parse_content
from flowhook.signatures.keys import HmacSignatureKey, SignatureKey, StreamingDigest, TokenSignatureKey, make_keyring
from flowhook.signatures.request_values import (
    compile_content,
    describe,
    extract_values,
    header_names,
    parameter_values,
    split_around_body,
)
from flowhook.signatures.timestamps import check_timestamp
from flowhook.signatures.types import JsonBody, Match, RequestView, SignatureError, Verifier, json_of


def make_signature_key(scheme: Scheme, key: bytes) -> SignatureKey:
    """Return the key of a scheme; ValueError: it can't be decoded; the message contains nothing of it."""
    if scheme.method == "hmac":
        return HmacSignatureKey(scheme, key)
    if scheme.method == "token":
        return TokenSignatureKey(scheme, key)
    from flowhook.signatures.public_keys import PublicSignatureKey  # noqa: PLC0415 - see there

    return PublicSignatureKey(scheme, key)


@attrs.define(eq=False, repr=False)
class StreamingVerification:
    """Verification of a streamed body by one kind of `auth`, whose keys are all tried.

    Pass the signed content before the body to `update` first.
    """

    _scheme: str  # name of the kind
    _after: Sequence[bytes]  # the signed content after the body
    _mismatch: SignatureError  # raised if nothing matches
    _tried: Sequence[tuple[str, StreamingDigest, Sequence[bytes]]]  # secret's name, hash, signatures that may match

    def update(self, data: bytes) -> None:
        for _, hashing, _ in self._tried:
            hashing.update(data)

    def finish(self) -> Match:
        for chunk in self._after:
            self.update(chunk)
        for name, hashing, signatures in self._tried:
            if hashing.matches(signatures):
                return Match(self._scheme, name)
        raise self._mismatch


def custom_scheme(kind: HmacAuth | PublicKeyAuth) -> Scheme:
    """Return the scheme that `auth: {hmac: …}` or `auth: {public_key: …}` of a flow describes."""
    timestamp = kind.timestamp
    places = (kind.location, None if timestamp is None else timestamp.location, kind.id_location)
    scheme = Scheme(
        FieldLocations._make(None if place is None else FieldLocation._make(place) for place in places),
        layout=kind.layout,
        separator=kind.separator or ",",
        tag=kind.prefix,
        encoding=kind.encoding,
        content=kind.content,
    )
    if timestamp is not None:
        scheme = replace(scheme, unit=timestamp.unit, tolerance=timestamp.tolerance)
    if isinstance(kind, PublicKeyAuth):
        return replace(scheme, method=kind.algorithm, algorithm=kind.hash)
    return replace(scheme, algorithm=kind.algorithm, key=kind.key.encoding, key_prefix=kind.key.prefix)


# Longest signature header that is read; eight SHA-512 signatures in hex take less than half.
MAX_HEADER_BYTES: Final = 4096
MAX_CANDIDATES: Final = 16  # signatures in one request that are compared
_NO_PAIRS: Final[dict[bytes, list[bytes]]] = {}
_SEPARATORS: Final = {"spaces": b" ", "commas": b","}


class _ClaimedSignature(NamedTuple):
    """The signature that a request claims: timestamp and ID as sent, and the candidates, as each key reads them."""

    timestamp: bytes
    message_id: bytes
    readings: list[list[bytes]]


class SignatureVerifier(Verifier):
    """Verifies one `Scheme`. Costs one hash of the content per key, whatever the request holds."""

    def __init__(self, scheme: Scheme, kind: AuthKind, secrets: Mapping[str, bytes]) -> None:
        self.scheme = kind.kind
        variants = (scheme.locations, *scheme.alternatives)
        self._locations = [FieldLocations._make(each and _lower(each) for each in found) for found in variants]
        signatures = [locations.signature for locations in self._locations]
        names = [header_names(location) for location in signatures]
        self.required_headers = frozenset(chain(*names) if all(names) else ())
        self.credential_headers = frozenset(chain(*names, (name.lower() for name in scheme.also_stripped)))
        self.credential_query = frozenset(location.name for location in signatures if location.kind == "query")
        self._layout = scheme.layout
        self._separator = scheme.separator.encode()
        self._tag = scheme.tag.encode()
        hashed = scheme.layout == "whole" and scheme.method == "hmac"
        # prefix of the signature, where a header contains nothing else; None elsewhere
        self.signature_tag = self._tag if hashed else None
        # the only header with a signature, where it contains nothing else, and no other value is needed; or None
        self._only_header: str | None = None
        self._unit = scheme.unit
        self._tolerance = scheme.tolerance
        content = parse_content(scheme.content)
        self._read_content = compile_content(content)
        self._signs_id = ContentPart("id") in content
        if hashed and len(signatures) == 1 and scheme.locations.timestamp is None and not self._signs_id:
            self._only_header = signatures[0].name if signatures[0].kind == "header" else None
        of_body = any(part.is_of_body for part in content)
        is_token = scheme.method == "token"
        self._must_be_empty = not of_body and not is_token
        in_body = any(
            location is not None and location.kind == "field" for locations in self._locations for location in locations
        )
        around = None if in_body or is_token else split_around_body(content)
        self._takes_pieces = around is not None
        self._before, self._after = around or (self._read_content, compile_content(()))
        self.needs_body = in_body or not is_token
        self.reads_json = in_body or any(part.source == "field" for part in content)
        # whether the body is signed as a whole, rather than fields of it
        self.signs_body = any(part.is_of_body and part.source != "field" for part in content) and not is_token
        self.signs_url = any(part.source in ("url", "decoded_url") for part in content)  # whether the URL is signed
        named = scheme.delivery or [locations.id for locations in self._locations if locations.id is not None]
        # whether the delivery ID is in the JSON body
        self.delivery_in_json = any(location.kind == "field" for location in named)
        self._delivery = tuple(_lower(location) for location in scheme.delivery)
        self._keyring = make_keyring(kind, secrets, lambda key: make_signature_key(scheme, key))
        self.keys = len(self._keyring.entries)  # number of keys

    @override
    def verify(self, request: RequestView, now: float) -> Match:
        claim = self._claim(request, now, has_body=bool(request.body))
        chunks = self._read_content(request, claim.timestamp, claim.message_id)
        for (name, key), candidates in zip(self._keyring.entries, claim.readings, strict=True):
            if candidates and key.matches(chunks, candidates):
                return Match(self.scheme, name)
        raise self._mismatch(claim)

    @property
    def streams(self) -> bool:
        """Whether the kind, and all its keys, support streamed bodies."""
        return self._takes_pieces and all(key.streams for _, key in self._keyring.entries)

    def begin(self, request: RequestView, now: float) -> StreamingVerification:
        """Begin to verify before the body arrives, however late; SignatureError: it can't pass with any body."""
        claim = self._claim(request, now, has_body=True)
        proof = StreamingVerification(
            self.scheme,
            self._after(request, claim.timestamp, claim.message_id),
            self._mismatch(claim),
            [
                (name, hashing, candidates)
                for (name, key), candidates in zip(self._keyring.entries, claim.readings, strict=True)
                if candidates and (hashing := key.begin()) is not None
            ],
        )
        for chunk in self._before(request, claim.timestamp, claim.message_id):
            proof.update(chunk)
        return proof

    def _claim(self, request: RequestView, now: float, *, has_body: bool) -> _ClaimedSignature:
        """Return the signature that a request claims, if it may be valid; SignatureError: it can't be valid."""
        keyring = self._keyring
        if not keyring.entries:
            raise keyring.refusal("", "")
        if self._only_header is not None and has_body and not self._must_be_empty:
            # what follows takes longer for the most common requests, and says why others are refused
            sent = [value for name, value in request.headers if name == self._only_header]
            if len(sent) == 1 and len(sent[0]) <= MAX_HEADER_BYTES and sent[0].startswith(self._tag):
                text = sent[0][len(self._tag) :]
                readings = [[] if (read := key.read(text)) is None else [read] for _, key in keyring.entries]
                if any(readings):
                    return _ClaimedSignature(b"", b"", readings)
        locations, sent = self._locate(request)
        found, pairs = self._split(sent)
        timestamp = b""
        if locations.timestamp is not None:
            timestamp = self._required(request, locations.timestamp, pairs)
            check_timestamp(timestamp, self._unit, self._tolerance, now)
        message_id = b""
        if self._signs_id and locations.id is not None:
            message_id = self._required(request, locations.id, pairs)
        if self._must_be_empty and has_body:
            raise SignatureError("the request has a body that the signature does not cover", reason="BODY_UNSIGNED")
        readings = [
            [signature for text in found if (signature := key.read(text)) is not None] for _, key in keyring.entries
        ]
        if not any(readings):  # so that it costs no hash of the body
            raise self._malformed("does not have the expected length")
        return _ClaimedSignature(timestamp, message_id, readings)

    def _mismatch(self, claim: _ClaimedSignature) -> SignatureError:
        readings = zip(self._keyring.entries, claim.readings, strict=True)
        if not any(key.is_well_formed(each) for (_, key), candidates in readings for each in candidates):
            return self._malformed("does not have the expected encoding")
        return self._keyring.refusal(
            "the signature does not match: another secret, or other content", "SIGNATURE_MISMATCH"
        )

    @override
    def delivery_id(self, request: RequestView) -> str | None:
        for location in self._delivery:
            value = _value(request, location)
            if value is not None:
                return value
        for locations in self._locations if not self._delivery else ():
            if locations.id is not None and locations.id.kind != "pair":
                with suppress(SignatureError):  # that it is there twice does not matter
                    if not extract_values(request, locations.signature):
                        continue
                return _value(request, locations.id)
        return None

    def _locate(self, request: RequestView) -> tuple[FieldLocations, list[bytes]]:
        for locations in self._locations:
            sent = extract_values(request, locations.signature)
            if sent:
                return locations, sent
        missing = " or ".join(describe(locations.signature) for locations in self._locations)
        raise SignatureError(f"{missing} is missing", reason="SIGNATURE_MISSING")

    def _required(self, request: RequestView, location: FieldLocation, pairs: Mapping[bytes, list[bytes]]) -> bytes:
        values = pairs.get(location.name.encode(), []) if location.kind == "pair" else extract_values(request, location)
        if location.kind == "pair" and len(values) != 1:
            raise self._malformed(f"has {len(values)} values {location.name}=")
        if not values or (location.kind != "pair" and not values[0]):
            raise self._malformed(f"lacks {describe(location)}")
        return values[0]

    def _split(self, sent: list[bytes]) -> tuple[list[bytes], Mapping[bytes, list[bytes]]]:
        """Return the signatures, as text, and the other values beside them."""
        if (len(sent[0]) if len(sent) == 1 else sum(map(len, sent))) > MAX_HEADER_BYTES:
            raise self._malformed(f"is longer than {MAX_HEADER_BYTES} bytes")
        tag, pairs = self._tag, _NO_PAIRS
        if self._layout == "whole":
            found = [value[len(tag) :] for value in sent if value.startswith(tag)]
        elif self._layout == "pairs":
            pairs = {}
            for value in sent:
                for entry in value.split(self._separator):
                    key, _, text = entry.strip(b" ").partition(b"=")
                    pairs.setdefault(key, []).append(text)
            found = pairs.get(tag, [])
        else:
            entries = [entry.strip(b" ") for value in sent for entry in value.split(_SEPARATORS[self._layout])]
            found = [entry[len(tag) :] for entry in entries if entry.startswith(tag)]
        if not 1 <= len(found) <= MAX_CANDIDATES:
            raise self._malformed(f"has {len(found)} signatures marked {self._tag.decode()!r}")
        return found, pairs

    def _malformed(self, what: str) -> SignatureError:
        return SignatureError(f"the signature {what}", reason="SIGNATURE_MALFORMED")


def _value(request: RequestView, location: FieldLocation) -> str | None:
    """Return the value at a location; None if there is none, or more than one. Never raises."""
    try:
        values = extract_values(request, location)
    except SignatureError:
        return None
    return (values[0].decode("latin-1") or None) if len(values) == 1 else None


def _lower(location: FieldLocation) -> FieldLocation:
    return FieldLocation(location.kind, location.name.lower()) if location.kind in ("header", "numbered") else location


MAX_ITEMS: Final = 100  # items of one request: each costs one HMAC per secret


class BatchItemsVerifier(Verifier):
    """Verifies the items of an array in the body one by one. All of them have to match the same secret."""

    needs_body = True
    reads_json = True
    comparisons = MAX_ITEMS

    def __init__(self, scheme: Scheme, kind: AuthKind, secrets: Mapping[str, bytes], *, field: str) -> None:
        self.scheme = kind.kind
        self._field = field
        self._each = SignatureVerifier(scheme, kind, secrets)
        self.keys = self._each.keys

    @override
    def verify(self, request: RequestView, now: float) -> Match:
        items = [request._replace(json=JsonBody(body=request.body, value=item)) for item in self._items(request)]
        matches = {self._each.verify(item, now) for item in items}
        if len(matches) != 1:
            raise SignatureError("the items are signed by different secrets", reason="SIGNATURE_MISMATCH")
        return matches.pop()

    def _items(self, request: RequestView) -> list[Any]:
        document = json_of(request)
        items = document.get(self._field) if isinstance(document, dict) else None
        if not isinstance(items, list) or not 1 <= len(items) <= MAX_ITEMS:
            raise SignatureError(
                f"{self._field} of the body must have 1 to {MAX_ITEMS} items", reason="SIGNATURE_MISSING"
            )
        return items


_BODY_HASH = "bodySHA256"


class TwilioVerifier(SignatureVerifier):
    """Verifies Twilio's signatures, whose content depends on the type of the body.

    For a form, the URL and every name and value of the form are signed, sorted. For anything else, the URL alone is
    signed, and its query parameter `bodySHA256` is the hash of the body.

    Source: https://www.twilio.com/docs/usage/security#validating-requests.
    """

    streams = False

    @override
    def verify(self, request: RequestView, now: float) -> Match:
        content_type = next((value for name, value in request.headers if name == "content-type"), b"")
        essence = parse_content_type(content_type.decode("latin-1")).essence
        if not request.body or essence == "application/x-www-form-urlencoded":
            return super().verify(request, now)
        match = super().verify(request._replace(body=b""), now)
        hashes = parameter_values(request.query, _BODY_HASH)
        expected = sha256(request.body).hexdigest().encode()
        if len(hashes) != 1 or not hmac.compare_digest(hashes[0][0].lower(), expected):
            raise SignatureError("the hash in the URL is not that of the body", reason="SIGNATURE_MISMATCH")
        return match


def can_stream(verifier: Verifier) -> TypeGuard[SignatureVerifier]:
    """Whether a verifier can verify a streamed body: it is hashed as it arrives, and never in memory as a whole.

    A request without a signature, or with a stale one, is refused before its body arrives. Whatever the caller does
    with the body meanwhile must be undone if `finish` refuses it.
    """
    return isinstance(verifier, SignatureVerifier) and verifier.streams


class StreamingAuthentication:
    """Streaming verification of a request by several kinds of `auth`, of which one has to pass."""

    def __init__(self, verifiers: Sequence[SignatureVerifier], request: RequestView, now: float) -> None:
        self.errors: list[SignatureError] = []  # refusals of kinds so far
        self._begun: list[tuple[Verifier, StreamingVerification]] = []
        for verifier in verifiers:
            try:
                self._begun.append((verifier, verifier.begin(request, now)))
            except SignatureError as error:
                self.errors.append(error)

    @property
    def may_pass(self) -> bool:
        """Whether any verifier may still pass, depending on the body."""
        return bool(self._begun)

    def update(self, data: bytes) -> None:
        for _, streaming in self._begun:
            streaming.update(data)

    def finish(self) -> tuple[Verifier, Match] | None:
        """Return the first verifier that passes, and its match; None if none passes, see `errors`."""
        for verifier, streaming in self._begun:
            try:
                return verifier, streaming.finish()
            except SignatureError as error:
                self.errors.append(error)
        return None
