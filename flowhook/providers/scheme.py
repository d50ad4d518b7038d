"""Signature schemes of senders as data, for `flowhook.signatures`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal, NamedTuple

from flowhook.providers.signed_content import ContentPart, parse_content

Algorithm = Literal["sha1", "sha256", "sha384", "sha512"]
EncodingName = Literal["hex", "base64", "base64url"]
Unit = Literal["s", "ms", "rfc3339"]
LocationKind = Literal["header", "query", "field", "numbered", "pair"]


class SignatureMethod(Enum):
    """Method by which a signature is verified."""

    HMAC = auto()
    """A shared key (RFC 2104)."""
    TOKEN = auto()
    """The secret itself is sent: it covers nothing of the request."""
    ED25519 = auto()
    """RFC 8032."""
    ECDSA = auto()
    """On any curve that the public key names; signatures in DER, or for P-256 the two numbers end to end."""
    RSA = auto()
    """PKCS #1 v1.5 (RFC 8017, section 8.2)."""

    @property
    def is_asymmetric(self) -> bool:
        """Whether the sender signs with a private key."""
        return self not in (SignatureMethod.HMAC, SignatureMethod.TOKEN)


class Layout(Enum):
    """Format of the value that contains the signature."""

    WHOLE = auto()
    """One signature after `tag`."""
    SPACES = auto()
    """Signatures separated by spaces, each after `tag`; entries with another tag are ignored."""
    COMMAS = auto()
    """The same, separated by commas."""
    PAIRS = auto()
    """`key=value` between separators: signatures under `tag`, other values (see `FieldLocation`) under their keys."""


class KeyFormat(Enum):
    """Encoding of the key in the text of the secret."""

    RAW = auto()
    """The bytes of the text; for a public key: PEM, or base64 or hex of DER or of the bare key."""
    HEX = auto()
    BASE64 = auto()
    WHSEC = auto()
    """Base64 after `whsec_`; without that prefix base64 if it is valid, else the bytes of the secret."""


class FieldLocation(NamedTuple):
    """Location of a value in a request.

    Attributes:
        kind: `header` and `query`: by name; `field`: of the JSON body, names joined by dots; `numbered`: headers that
            are called `name` and a number from 1; `pair`: a key beside the signature, in a value with layout `PAIRS`.
        name: as the sender spells it.
    """

    kind: LocationKind
    name: str


class FieldLocations(NamedTuple):
    """Locations of the values of one variant of a scheme; None for a value that the scheme does not have."""

    signature: FieldLocation
    timestamp: FieldLocation | None = None
    id: FieldLocation | None = None


def in_headers(signature: str, *, timestamp: str | None = None, id: str | None = None) -> FieldLocations:  # noqa: A002
    """Return the locations of a scheme with one header for each value."""
    return FieldLocations(
        FieldLocation("header", signature),
        None if timestamp is None else FieldLocation("header", timestamp),
        None if id is None else FieldLocation("header", id),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """The signature scheme of a sender.

    Attributes:
        locations: alternatives; verification uses the first whose signature is present, signing the first of all.
        method: how the signature is verified.
        layout: format of the value that contains the signature.
        separator: one character between the entries of `PAIRS`.
        tag: prefix of a signature in that value, or its key in `PAIRS`.
        algorithm: hash of HMAC, ECDSA and RSA.
        encoding: of the signature.
        content: the signed content.
        unit: of the timestamp; None if there is none.
        tolerance: maximum difference of a timestamp from the local clock, either way, in seconds.
        key: encoding of the key in the secret.
        key_prefix: removed from the secret before it is decoded, if present.
        delivery: locations of the delivery ID, by preference; empty: the `id` of `locations`, if there is one.
        also_stripped: further headers that carry a credential, to be removed unread.
    """

    locations: tuple[FieldLocations, ...]
    method: SignatureMethod = SignatureMethod.HMAC
    layout: Layout = Layout.WHOLE
    separator: str = ","
    tag: str = ""
    algorithm: Algorithm = "sha256"
    encoding: EncodingName = "hex"
    content: tuple[ContentPart, ...] = parse_content("{body}")
    unit: Unit | None = None
    tolerance: float = 300.0
    key: KeyFormat = KeyFormat.RAW
    key_prefix: str = ""
    delivery: tuple[FieldLocation, ...] = ()
    also_stripped: tuple[str, ...] = ()

    @property
    def delivery_locations(self) -> tuple[FieldLocation, ...]:
        """Locations of the delivery ID, by preference: headers, or fields of the body."""
        if self.delivery:
            return self.delivery
        return tuple(
            locations.id
            for locations in self.locations[:1]
            if locations.id is not None and locations.id.kind == "header"
        )
