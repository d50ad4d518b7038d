"""Providers as data: what they sign and how, for `flowhook.signatures`, and the row that a provider is.

`parse_content` reads templates of signed content: the value of `hmac.content`, such as `{timestamp}.{body}`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Literal, NamedTuple

# A header field's name. Source: RFC 9110, section 5.6.2; the maximum length is Flowhook's own.
TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")

_PLACEHOLDER: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class ContentPart(NamedTuple):
    """A piece of signed content."""

    source: str  # `text`, one of `SOURCES`, `header`, `field` (of the JSON body), or `setting` (of the kind of `auth`)
    # the text, the lower-case name of the header, the dotted path of the field, or the name of the setting; else empty
    value: str = ""

    @property
    def is_of_body(self) -> bool:
        return self.source in OF_BODY


# Placeholders without an argument: the body's bytes; its CRC-32 in decimal; the names and values of a form, sorted by
# name and joined without a separator; timestamp and ID as sent; the request's method; its URL, as sent or percent-
# decoded except for `%3F`; and its path.
SOURCES: Final = ("body", "body_crc32", "form", "timestamp", "id", "method", "url", "decoded_url", "path")
OF_BODY: Final = frozenset({"body", "body_crc32", "form", "field"})

_FIELD: Final = re.compile(r"[^.{}\s]+(\.[^.{}\s]+)*")


def parse_content(template: str) -> tuple[ContentPart, ...]:
    """Return the pieces of a template; `{{` and `}}` are braces. ValueError: unpaired brace, unknown placeholder."""
    parts: list[ContentPart] = []
    text = ""
    position = 0
    for match in _PLACEHOLDER.finditer(template):
        text += template[position : match.start()]
        position = match.end()
        token, name = match[0], match[1]
        if token in ("{{", "}}"):
            text += token[0]
            continue
        if name is None:
            raise ValueError(f"a {token!r} is not paired; write {token * 2!r} for the character itself")
        if text:
            parts.append(ContentPart("text", text))
            text = ""
        parts.append(_content_part(name))
    text += template[position:]
    if text:
        parts.append(ContentPart("text", text))
    return tuple(parts)


def _content_part(name: str) -> ContentPart:
    if name in SOURCES:
        return ContentPart(name)
    source, colon, value = name.partition(":")
    if source == "header" and colon:
        if not TOKEN.fullmatch(value):
            raise ValueError(f"{value!r} is not a valid header name")
        return ContentPart("header", value.lower())
    if source == "field" and colon:
        if not _FIELD.fullmatch(value):
            raise ValueError(f"{value!r} is not a path of names joined by dots")
        return ContentPart("field", value)
    known = ", ".join(f"{{{source}}}" for source in SOURCES)
    raise ValueError(f"{{{name}}} is unknown: use {known}, {{header:NAME}} and {{field:PATH}}")


Algorithm = Literal["sha1", "sha256", "sha384", "sha512"]
EncodingName = Literal["hex", "base64", "base64url"]
Unit = Literal["s", "ms", "rfc3339"]
LocationKind = Literal["header", "query", "field", "numbered", "pair"]


class SignatureMethod(Enum):
    """Method by which a signature is verified."""

    HMAC = auto()  # a shared key (RFC 2104)
    TOKEN = auto()  # the secret itself is sent: it covers nothing of the request
    ED25519 = auto()  # RFC 8032
    ECDSA = auto()  # on any curve that the public key names; signatures in DER, or for P-256 the two numbers end to end
    RSA = auto()  # PKCS #1 v1.5 (RFC 8017, section 8.2)


class Layout(Enum):
    """Format of the value that contains the signature."""

    WHOLE = auto()  # one signature after `tag`
    SPACES = auto()  # signatures separated by spaces, each after `tag`; entries with another tag are ignored
    COMMAS = auto()  # the same, separated by commas
    PAIRS = auto()
    """`key=value` between separators: signatures under `tag`, other values (see `FieldLocation`) under their keys."""


class KeyFormat(Enum):
    """Encoding of the key in the text of the secret."""

    RAW = auto()  # the bytes of the text; for a public key: PEM, or base64 or hex of DER or of the bare key
    HEX = auto()
    BASE64 = auto()
    WHSEC = auto()  # Base64 after `whsec_`; without that prefix base64 if it is valid, else the bytes of the secret


class FieldLocation(NamedTuple):
    """Location of a value in a request."""

    # `header` and `query`: by name; `field`: of the JSON body, names joined by dots; `numbered`: headers that are
    # called `name` and a number from 1; `pair`: a key beside the signature, in a value with layout `PAIRS`
    kind: LocationKind
    name: str  # as the sender spells it


class FieldLocations(NamedTuple):
    """Locations of the values of one variant of a scheme; None for a value that the scheme does not have."""

    signature: FieldLocation
    timestamp: FieldLocation | None = None
    id: FieldLocation | None = None


def in_headers(signature: str, *, timestamp: str | None = None, id: str | None = None) -> FieldLocations:  # noqa: A002
    return FieldLocations(
        FieldLocation("header", signature),
        None if timestamp is None else FieldLocation("header", timestamp),
        None if id is None else FieldLocation("header", id),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """The signature scheme of a sender."""

    # alternatives; verification uses the first whose signature is present, signing the first of all
    locations: tuple[FieldLocations, ...]
    method: SignatureMethod = SignatureMethod.HMAC  # how the signature is verified
    layout: Layout = Layout.WHOLE  # format of the value that contains the signature
    separator: str = ","  # one character between the entries of `PAIRS`
    tag: str = ""  # prefix of a signature in that value, or its key in `PAIRS`
    algorithm: Algorithm = "sha256"  # hash of HMAC, ECDSA and RSA
    encoding: EncodingName = "hex"  # of the signature
    content: tuple[ContentPart, ...] = parse_content("{body}")  # the signed content
    unit: Unit | None = None  # of the timestamp; None if absent
    # maximum difference of a timestamp from the local clock, either way, in seconds: five minutes is what most say
    tolerance: float = 300.0
    key: KeyFormat = KeyFormat.RAW  # encoding of the key in the secret
    key_prefix: str = ""  # removed from the secret before it is decoded, if present
    # locations of the delivery ID, by preference; empty: the `id` of `locations`, if there is one
    delivery: tuple[FieldLocation, ...] = ()
    also_stripped: tuple[str, ...] = ()  # further headers that carry a credential, to be removed unread

    @property
    def delivery_locations(self) -> tuple[FieldLocation, ...]:
        """Locations of the delivery ID, by preference: headers, or fields of the body."""
        named = self.locations[0].id
        return self.delivery or ((named,) if named is not None and named.kind == "header" else ())


class Handshake(Enum):
    """A method by which providers validate a URL registered with them; `edge.webhook.handshakes` implements them."""

    CONFIRM_SUBSCRIPTION = auto()  # a signed message with a URL that has to be fetched
    ECHO_BODY_CHALLENGE = auto()  # a signed body of type `url_verification`, whose `challenge` is echoed
    ECHO_HEADER = auto()  # a key in the header `X-Hook-Secret`, which is echoed there
    ECHO_MESSAGE_CHALLENGE = auto()
    """A signed message of type `webhook_callback_verification`, whose `challenge` is echoed."""
    ECHO_VALIDATION_CODE = auto()  # an event with a `validationCode`, which is echoed as `validationResponse`
    ECHO_QUERY_CHALLENGE = auto()  # a GET whose parameter `challenge` is echoed
    ECHO_VALIDATION_TOKEN = auto()  # a POST whose parameter `validationToken` is echoed
    PING = auto()  # a signed ping, which is acknowledged
    SIGN_CRC_TOKEN = auto()  # a GET whose parameter `crc_token` is signed
    SIGN_PLAIN_TOKEN = auto()  # a signed body of type `endpoint.url_validation`, whose `plainToken` is signed
    VERIFY_TOKEN = auto()  # a GET with a token that is compared, and a challenge that is echoed

    @property
    def signs(self) -> bool:
        """Whether the response contains a signature of text that is in the request."""
        return self in (Handshake.SIGN_CRC_TOKEN, Handshake.SIGN_PLAIN_TOKEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider of webhooks."""

    name: str  # of the kind of `auth`
    source: str  # the provider's page that documents the signature
    scheme: Scheme | None = None  # how it signs; None: `flowhook.signatures.build` has a verifier of its own for it
    handshake: Handshake | None = None  # how it validates a URL; None: it does not
    sends_delivery_ids: bool = False  # whether its verifier finds a delivery ID. A scheme says so itself.

    @property
    def names_deliveries(self) -> bool:
        return self.sends_delivery_ids if self.scheme is None else bool(self.scheme.delivery_locations)

    @property
    def sends_secret(self) -> bool:
        return self.scheme is not None and self.scheme.method is SignatureMethod.TOKEN

    @property
    def has_public_key(self) -> bool:
        """Whether its signatures are verified by a public key instead of a secret."""
        return self.scheme is not None and self.scheme.method not in (SignatureMethod.HMAC, SignatureMethod.TOKEN)
