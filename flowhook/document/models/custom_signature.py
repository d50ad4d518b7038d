"""Models of custom signatures, defined in a flow file, so that a new provider needs no code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import override

from flowhook.document.diagnostics.problems import Code, LocatedCause
from flowhook.document.models.base import Model, exactly_one, model_check
from flowhook.document.models.credentials import (
    MAX_SECRETS_PER_KIND,
    MAX_TOLERANCE_SECONDS,
    AuthKind,
    Duration,
    FieldPath,
    HeaderName,
    PublicKeyText,
    SecretAuth,
    printable_ascii,
)
from flowhook.providers.scheme import ContentPart, parse_content

PairName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]


class _ValueSource(Model):
    """Location of a value: exactly one of these."""

    header: HeaderName | None = None
    """Name of a header."""
    field: FieldPath | None = None
    """Of the JSON body."""
    pair: PairName | None = None
    """Key beside the signature, where `layout` is `pairs`."""

    _one = exactly_one("header", "field", "pair", cause="needs one of `header: NAME`, `field: PATH` and `pair: KEY`")

    @property
    def location(self) -> tuple[str, str]:
        return next((kind, name) for kind in ("header", "field", "pair") if (name := getattr(self, kind)) is not None)


class TimestampSource(_ValueSource):
    """Location of the time at which a sender signed."""

    unit: Literal["s", "ms", "rfc3339"] = "s"
    """Seconds or milliseconds since 1970, or a date and time as in RFC 3339."""
    tolerance: Annotated[Duration, Field(le=MAX_TOLERANCE_SECONDS)] = 300.0
    """Maximum difference from the local clock, either way, in seconds; in (0, 7 days]."""


class IdSource(Model):
    """Location of the delivery ID: a header, or a field of the JSON body."""

    header: HeaderName | None = None
    field: FieldPath | None = None

    @model_check
    def _at_most_one(self) -> Iterator[LocatedCause]:
        if self.header is not None and self.field is not None:
            yield (), Code.KEY_CONFLICT, "needs `header: NAME` or `field: PATH`, and not both"

    @property
    def location(self) -> tuple[str, str]:
        """Kind and name of the location; by default the header `webhook-id`, as in Standard Webhooks."""
        return ("field", self.field) if self.field is not None else ("header", self.header or "webhook-id")


_LOCATIONS: Final = ("header", "numbered_header", "query", "field")


class CustomSignature(AuthKind):
    """A custom signature: its location, its encoding and its content."""

    header: HeaderName | None = None
    """Header with the signature."""
    numbered_header: HeaderName | None = None
    """Part before the number in the names of headers with signatures, any of which may match."""
    query: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Query parameter with the signature."""
    field: FieldPath | None = None
    """Field of the JSON body with the signature."""
    layout: Literal["whole", "spaces", "commas", "pairs"] = "whole"
    """Format of that value: one signature, several separated by spaces or commas, or pairs `key=value`."""
    separator: Literal[",", ";", "&", "|", " "] | None = None
    """Character between the pairs; None: a comma."""
    prefix: Annotated[str, Field(max_length=64), AfterValidator(printable_ascii)] = ""
    """Exact text before a signature there; with `pairs`, the key of the signatures."""
    encoding: Literal["hex", "base64", "base64url"] = "hex"
    """Encoding of the signature; hex in either case, base64 with or without padding."""
    content: Annotated[str, Field(max_length=1024)] = "{body}"
    """Template of the signed content; see `parse_content`. `{timestamp}` and `{id}` are the values as sent."""
    timestamp: TimestampSource | None = None
    id: IdSource | None = None
    """Location of the delivery ID, for `{id}` and to recognise repeated deliveries. `{id}` without it reads
    `webhook-id`, the header of Standard Webhooks."""

    @model_check
    def _content_is_sound(self) -> Iterator[LocatedCause]:
        if sum(getattr(self, location) is not None for location in _LOCATIONS) != 1:
            yield (), Code.KEY_CONFLICT, f"needs one of {', '.join(_LOCATIONS)}: the location of the signature"
        try:
            parts = self.parts
        except ValueError as error:
            yield ("content",), Code.VALUE_FORMAT, str(error)
            return
        sources = {part.source for part in parts}
        if "timestamp" in sources and self.timestamp is None:
            yield ("content",), Code.KEY_MISSING, "{timestamp} needs `timestamp: {header: NAME}` beside it"
        if self.header is not None and ContentPart("header", self.header.lower()) in parts:
            yield ("content",), Code.SIGNATURE_UNSAFE, "a signature can't cover the header that carries it"
        if not sources & {"body", "body_crc32", "form", "url", "decoded_url", "field"}:
            yield ("content",), Code.SIGNATURE_UNSAFE, "must cover {body}, or {url} for methods without a body"
        yield from self._problems_of_layout()
        if self.timestamp is not None:
            kind, name = self.timestamp.location
            covered = "timestamp" in sources or ContentPart(kind, name.lower() if kind == "header" else name) in parts
            if not covered and not (kind == "field" and "body" in sources):
                cause = "is not covered by `content`, so anyone could renew it: add {timestamp} there"
                yield ("timestamp",), Code.SIGNATURE_UNSAFE, cause

    def _problems_of_layout(self) -> Iterator[LocatedCause]:
        if self.layout == "pairs":
            if not self.prefix:
                yield ("prefix",), Code.KEY_MISSING, "`layout: pairs` needs the key of the signatures as `prefix`"
            return
        if self.separator is not None:
            yield ("separator",), Code.KEY_CONFLICT, "needs `layout: pairs`"
        if self.timestamp is not None and self.timestamp.pair is not None:
            yield ("timestamp", "pair"), Code.KEY_CONFLICT, "needs `layout: pairs`"

    @property
    def parts(self) -> tuple[ContentPart, ...]:
        return parse_content(self.content)

    @property
    def covers_body(self) -> bool:
        """Whether any part of the body is signed; if not, a request with a body is refused."""
        return any(part.is_of_body for part in self.parts)

    @property
    def location(self) -> tuple[str, str]:
        kind = next(location for location in _LOCATIONS if getattr(self, location) is not None)
        return ("numbered" if kind == "numbered_header" else kind), getattr(self, kind)

    @property
    def id_location(self) -> tuple[str, str] | None:
        if self.id is not None:
            return self.id.location
        return IdSource().location if ContentPart("id") in self.parts else None

    @override
    @property
    def names_deliveries(self) -> bool:
        return self.id_location is not None


class KeyReading(Model):
    """Derivation of the key from the secret: the text after `prefix`, if it is present, decoded by `encoding`."""

    encoding: Literal["utf8", "hex", "base64"] = "utf8"
    prefix: Annotated[str, Field(max_length=64), AfterValidator(printable_ascii)] = ""


class HmacAuth(CustomSignature, SecretAuth):
    """A custom signature by HMAC; see `CustomSignature`."""

    kind: ClassVar[str] = "hmac"

    algorithm: Literal["sha1", "sha256", "sha384", "sha512"] = "sha256"
    key: KeyReading = KeyReading()


class PublicKeyAuth(CustomSignature):
    """A custom signature by a private key; see `CustomSignature`."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["key"]}, {"required": ["keys"]}]})

    kind: ClassVar[str] = "public_key"

    algorithm: Literal["ed25519", "ecdsa", "rsa"]
    """`rsa` is PKCS #1 v1.5; with both `ecdsa` and `rsa` the hash is `hash`."""
    hash: Literal["sha1", "sha256", "sha384", "sha512"] = "sha256"
    key: PublicKeyText | None = None
    """Public key: PEM, or its DER (SubjectPublicKeyInfo) in base64 or hex; of Ed25519 also the bare 32 bytes."""
    keys: Annotated[tuple[PublicKeyText, ...], Field(min_length=1, max_length=MAX_SECRETS_PER_KIND)] | None = None
    """Several of them, while rotating."""

    _one_way_to_give_keys = exactly_one(
        "key", "keys", cause="needs `key: PUBLIC KEY`, or `keys: [PUBLIC KEY, …]` while rotating, and not both"
    )

    @override
    @property
    def public_values(self) -> tuple[tuple[str, bytes], ...]:
        if self.key is not None:
            return (("key", self.key.encode()),)
        return tuple((f"keys[{index}]", key.encode()) for index, key in enumerate(self.keys or ()))
