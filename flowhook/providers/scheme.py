"""Providers as data: what they sign and how, for `flowhook.signatures`, and the row that a provider is.

`parse_content` reads templates of signed content: the value of `hmac.content`, such as `{timestamp}.{body}`.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from enum import Enum, auto
from typing import Final, Literal, NamedTuple, cast

# A header field's name. Source: RFC 9110, section 5.6.2; the maximum length is Flowhook's own.
TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")

_PLACEHOLDER: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class ContentPart(NamedTuple):
    """A piece of signed content."""

    source: str  # `text`, one of `SOURCES`, `header`, or `field` (of the JSON body)
    value: str = ""  # the text, the lower-case name of the header, or the dotted path of the field; else empty

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

SignatureMethod = Literal["hmac", "token", "ed25519", "ecdsa", "rsa"]
"""How a signature is verified: `hmac` by a shared key (RFC 2104); `token`: the secret itself is sent, which covers
nothing of the request; `ed25519` (RFC 8032); `ecdsa` on any curve that the public key names, signatures in DER, or for
P-256 the two numbers end to end; `rsa` by PKCS #1 v1.5 (RFC 8017, section 8.2)."""

Layout = Literal["whole", "spaces", "commas", "pairs"]
"""Format of the value that contains the signature: `whole`, one after `tag`; `spaces` or `commas` between signatures,
each after `tag`, where entries with another tag are ignored; `pairs`, `key=value` between separators: signatures under
`tag`, other values (see `FieldLocation`) under their keys."""

KeyEncoding = Literal["utf8", "hex", "base64", "whsec"]
"""How the text of a secret encodes the key: `utf8`, its bytes; `whsec`, base64 after `whsec_`, and without that prefix
base64 if it is valid, else the bytes of the secret. A public key is PEM, or base64 or hex of DER or of the bare key."""

SHARED: Final[frozenset[SignatureMethod]] = frozenset({"hmac", "token"})  # methods by a secret that both sides know


class FieldLocation(NamedTuple):
    """Location of a value in a request."""

    # `header` and `query`: by name; `field`: of the JSON body, names joined by dots; `numbered`: headers that are
    # called `name` and a number from 1; `pair`: a key beside the signature, in a value with layout `pairs`
    kind: LocationKind
    name: str  # as the sender spells it


class FieldLocations(NamedTuple):
    """Locations of the values of one variant of a scheme; None for a value that the scheme does not have."""

    signature: FieldLocation
    timestamp: FieldLocation | None = None
    id: FieldLocation | None = None


def at(place: str) -> FieldLocation:
    """Return the location that is written as `KIND:NAME`; a header's name alone will do."""
    kind, colon, name = place.rpartition(":")
    return FieldLocation(cast("LocationKind", kind) if colon else "header", name)


def sent(signature: str, timestamp: str = "", id: str = "") -> FieldLocations:  # noqa: A002
    """Return the locations of a signature, a timestamp and an ID, each written as for `at`; empty: it is not sent."""
    return FieldLocations(at(signature), at(timestamp) if timestamp else None, at(id) if id else None)


@dataclass(frozen=True, slots=True)
class Scheme:
    """The signature scheme of a sender."""

    locations: FieldLocations
    _: KW_ONLY
    # other locations: verification uses the first whose signature is present, and signing only `locations`
    alternatives: tuple[FieldLocations, ...] = ()
    method: SignatureMethod = "hmac"
    layout: Layout = "whole"
    separator: str = ","  # one character between the entries of `pairs`
    tag: str = ""  # prefix of a signature in that value, or its key in `pairs`
    algorithm: Algorithm = "sha256"  # hash of HMAC, ECDSA and RSA
    encoding: EncodingName = "hex"  # of the signature
    content: str = "{body}"  # template of the signed content; see `parse_content`
    unit: Unit = "s"  # of the timestamp, if there is one
    # maximum difference of a timestamp from the local clock, either way, in seconds: five minutes is what most say
    tolerance: float = 300.0
    key: KeyEncoding = "utf8"  # encoding of the key in the secret
    key_prefix: str = ""  # removed from the secret before it is decoded, if present
    # locations of the delivery ID, by preference; empty: the `id` of `locations`, if there is one
    delivery: tuple[FieldLocation, ...] = ()
    also_stripped: tuple[str, ...] = ()  # further headers that carry a credential, to be removed unread

    @property
    def delivery_locations(self) -> tuple[FieldLocation, ...]:
        """Locations of the delivery ID, by preference: headers, or fields of the body."""
        named = self.locations.id
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


@dataclass(frozen=True, slots=True)
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
        return self.scheme is not None and self.scheme.method == "token"

    @property
    def has_public_key(self) -> bool:
        """Whether its signatures are verified by a public key instead of a secret."""
        return self.scheme is not None and self.scheme.method not in SHARED
