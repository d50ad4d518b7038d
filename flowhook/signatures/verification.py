"""Verifies requests by any `Scheme`: finds the signature, reads it, and matches it against the content."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Final, NamedTuple

from flowhook.document.auth import AuthKind
from flowhook.providers.scheme import FieldLocation, FieldLocations, Layout, Scheme, SignatureMethod
from flowhook.providers.signed_content import ContentPart
from flowhook.signatures.content import compile_content, split_around_body
from flowhook.signatures.extract import extract_values
from flowhook.signatures.keyring import make_keyring
from flowhook.signatures.signature_keys import make_signature_key
from flowhook.signatures.streaming import StreamingSchemeVerification, StreamingVerification
from flowhook.signatures.timestamps import check_timestamp
from flowhook.signatures.types import Match, RequestView, SignatureError

MAX_HEADER_BYTES: Final = 4096
"""Longest signature header that is read; eight SHA-512 signatures in hex take less than half."""

MAX_CANDIDATES: Final = 16
"""Signatures in one request that are compared."""

_NO_PAIRS: Final[dict[bytes, list[bytes]]] = {}

_SEPARATORS: Final = {Layout.SPACES: b" ", Layout.COMMAS: b","}


class _ClaimedSignature(NamedTuple):
    """The signature that a request claims: timestamp and ID as sent, and the candidates, as each key reads them."""

    timestamp: bytes
    message_id: bytes
    readings: list[list[bytes]]


class SignatureVerifier:
    """Verifies one `Scheme`. Costs one hash of the content per key, whatever the request holds.

    Attributes:
        keys: number of keys.
        delivery_in_json: whether the delivery ID is in the JSON body.
        reads_json: see `json_body.reads_json`.
        signs_body: whether the body is signed as a whole, rather than fields of it.
        signs_url: whether the URL is signed.
    """

    challenge = None

    def __init__(self, scheme: Scheme, kind: AuthKind, secrets: Mapping[str, bytes]) -> None:
        self.scheme = kind.kind
        self._places = [_lower(places) for places in scheme.places]
        signatures = [places.signature for places in self._places]
        names = [header_names(place) for place in signatures]
        self.required_headers = frozenset(chain(*names) if all(names) else ())
        self.credential_headers = frozenset(chain(*names, (name.lower() for name in scheme.also_stripped)))
        self.credential_query = frozenset(place.name for place in signatures if place.kind == "query")
        self._layout = scheme.layout
        self._tag = scheme.tag.encode()
        self._unit = scheme.unit
        self._tolerance = scheme.tolerance
        content = resolve_settings(scheme, kind)
        self._read_content = compile_content(content)
        self._signs_id = ContentPart("id") in content
        of_body = any(part.is_of_body for part in content)
        is_token = scheme.method is SignatureMethod.TOKEN
        self._must_be_empty = not of_body and not is_token
        in_body = any(place is not None and place.kind == "field" for places in self._places for place in places)
        around = None if in_body or is_token else split_around_body(content)
        self._takes_pieces = around is not None
        self._before, self._after = around or (self._read_content, compile_content(()))
        self.needs_body = in_body or not is_token
        self.reads_json = in_body or any(part.source == "field" for part in content)
        self.signs_body = any(part.is_of_body and part.source != "field" for part in content) and not is_token
        self.signs_url = any(part.source in ("url", "decoded_url") for part in content)
        named = scheme.delivery or [places.id for places in self._places if places.id is not None]
        self.delivery_in_json = any(place.kind == "field" for place in named)
        self._delivery = tuple(_lower_place(place) for place in scheme.delivery)
        self._keyring = make_keyring(kind, secrets, lambda key: make_signature_key(scheme, key))
        self.keys = len(self._keyring.entries)

    def verify(self, request: RequestView, now: float) -> Match:
        """See `Verifier.verify`."""
        claim = self._claim(request, now, has_body=bool(request.body))
        chunks = self._read_content(request, claim.timestamp, claim.message_id)
        for (name, prover), candidates in zip(self._keyring.entries, claim.readings, strict=True):
            if candidates and prover.matches(chunks, candidates):
                return Match(self.scheme, name)
        raise self._mismatch(claim)

    @property
    def streams(self) -> bool:
        """See `StreamingVerifier.streams`."""
        return self._takes_pieces and all(prover.streams for _, prover in self._keyring.entries)

    def begin(self, request: RequestView, now: float) -> StreamingVerification:
        """See `StreamingVerifier.begin`."""
        claim = self._claim(request, now, has_body=True)
        proof = StreamingSchemeVerification(
            self.scheme,
            self._after(request, claim.timestamp, claim.message_id),
            self._mismatch(claim),
            [
                (name, hashing, candidates)
                for (name, prover), candidates in zip(self._keyring.entries, claim.readings, strict=True)
                if candidates and (hashing := prover.begin()) is not None
            ],
        )
        for chunk in self._before(request, claim.timestamp, claim.message_id):
            proof.update(chunk)
        return proof

    def _claim(self, request: RequestView, now: float, *, has_body: bool) -> _ClaimedSignature:
        """Return the signature that a request claims, if it may be valid.

        Raises:
            SignatureError: it can't be valid.
        """
        keyring = self._keyring
        if not keyring.entries:
            raise keyring.refusal("", "")
        places, sent = self._locate(request)
        found, pairs = self._split(sent)
        timestamp = b""
        if self._unit is not None and places.timestamp is not None:
            timestamp = self._required(request, places.timestamp, pairs)
            check_timestamp(timestamp, self._unit, self._tolerance, now)
        message_id = self._required(request, places.id, pairs) if places.id is not None and self._signs_id else b""
        if self._must_be_empty and has_body:
            raise SignatureError("the request has a body that the signature does not cover", reason="BODY_UNSIGNED")
        readings = [
            [signature for text in found if (signature := prover.read(text)) is not None]
            for _, prover in keyring.entries
        ]
        if not any(readings):  # so that it costs no hash of the body
            raise self._malformed("holds no signature of the length it should have")
        return _ClaimedSignature(timestamp, message_id, readings)

    def _mismatch(self, claim: _ClaimedSignature) -> SignatureError:
        """Return the error for signatures that do not match."""
        keyring = self._keyring
        if not any(
            prover.is_well_formed(candidate)
            for (_, prover), candidates in zip(keyring.entries, claim.readings, strict=True)
            for candidate in candidates
        ):
            return self._malformed("holds no signature in the encoding it should have")
        return keyring.refusal("the signature does not match: another secret, or another content", "SIGNATURE_MISMATCH")

    def delivery_id(self, request: RequestView) -> str | None:
        """See `Verifier.delivery_id`."""
        for place in self._delivery:
            value = _value(request, place)
            if value is not None:
                return value
        for places in self._places if not self._delivery else ():
            if places.id is not None and places.id.kind != "pair" and _is_there(request, places.signature):
                return _value(request, places.id)
        return None

    def _locate(self, request: RequestView) -> tuple[FieldLocations, list[bytes]]:
        for places in self._places:
            sent = extract_values(request, places.signature)
            if sent:
                return places, sent
        missing = " or ".join(describe(places.signature) for places in self._places)
        raise SignatureError(f"{missing} is missing", reason="SIGNATURE_MISSING")

    def _required(self, request: RequestView, place: FieldLocation, pairs: Mapping[bytes, list[bytes]]) -> bytes:
        values = pairs.get(place.name.encode(), []) if place.kind == "pair" else extract_values(request, place)
        if place.kind == "pair" and len(values) != 1:
            raise self._malformed(f"has {len(values)} values {place.name}=")
        if not values or (place.kind != "pair" and not values[0]):
            raise self._malformed(f"comes without {describe(place)}")
        return values[0]

    def _split(self, sent: list[bytes]) -> tuple[list[bytes], Mapping[bytes, list[bytes]]]:
        """Return the signatures, as text, and the other values beside them."""
        if (len(sent[0]) if len(sent) == 1 else sum(map(len, sent))) > MAX_HEADER_BYTES:
            raise self._malformed(f"is longer than {MAX_HEADER_BYTES} bytes")
        tag, pairs = self._tag, _NO_PAIRS
        if self._layout is Layout.WHOLE:
            found = [value[len(tag) :] for value in sent if value.startswith(tag)]
        elif self._layout is Layout.PAIRS:
            pairs = {}
            for value in sent:
                for entry in value.split(b","):
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


def _is_there(request: RequestView, place: FieldLocation) -> bool:
    try:
        return bool(extract_values(request, place))
    except SignatureError:
        return True


def _value(request: RequestView, place: FieldLocation) -> str | None:
    """Return the value at a location; None if there is none, or more than one. Never raises."""
    try:
        values = extract_values(request, place)
    except SignatureError:
        return None
    return (values[0].decode("latin-1") or None) if len(values) == 1 else None


def resolve_settings(scheme: Scheme, kind: AuthKind) -> tuple[ContentPart, ...]:
    """Return the signed content, with the settings of the kind of `auth` filled in."""
    return tuple(
        ContentPart("text", str(getattr(kind, part.value))) if part.source == "setting" else part
        for part in scheme.content
    )


def header_names(place: FieldLocation) -> list[str]:
    """Return the lower-case names of the headers of a location."""
    if place.kind == "numbered":
        return [f"{place.name}{number}" for number in range(1, MAX_CANDIDATES + 1)]
    return [place.name] if place.kind == "header" else []


def describe(place: FieldLocation) -> str:
    """Return a description of a location for operators."""
    words = {"header": "header", "numbered": "header", "query": "query parameter", "field": "field"}
    return f"{words.get(place.kind, 'value')} {place.name}{'1' if place.kind == 'numbered' else ''}"


def _lower_place(place: FieldLocation) -> FieldLocation:
    return FieldLocation(place.kind, place.name.lower()) if place.kind in ("header", "numbered") else place


def _lower(places: FieldLocations) -> FieldLocations:
    return FieldLocations(*(None if place is None else _lower_place(place) for place in places))  # type: ignore[arg-type]
