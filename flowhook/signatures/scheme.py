"""How a sender signs, as data: what `hmac_signature` verifies and signs by.

A provider is a row of this type (`providers`); `hmac`, spelled out in a flow file, becomes one here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from flowhook.document.auth import HmacAuth
from flowhook.document.signed_content import ContentPart, parse_content

Algorithm = Literal["sha1", "sha256", "sha384", "sha512"]
EncodingName = Literal["hex", "base64", "base64url"]
Unit = Literal["s", "ms", "rfc3339"]


class Layout(Enum):
    """How a signature header is built."""

    WHOLE = auto()
    """One signature after `tag`."""
    LIST = auto()
    """Space-separated signatures, each after `tag`; entries with another tag are ignored."""
    PAIRS = auto()
    """Comma-separated `key=value`: the timestamp under `t`, signatures under `tag`; other keys are ignored."""


class KeyFormat(Enum):
    """How the HMAC key is made of the secret."""

    RAW = auto()
    """The secret's bytes."""
    WHSEC = auto()
    """Base64 after `whsec_`; without that prefix base64 if it is that, else the secret's bytes."""


@dataclass(frozen=True, slots=True)
class HeaderNames:
    """The headers one signature takes, as the sender spells them; None where the scheme has none."""

    signature: str
    timestamp: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How a sender signs.

    Attributes:
        name: of the kind of `auth`.
        source: page that says so; empty for one that a flow file spells out.
        headers: alternatives; the first whose signature is there counts, and signing uses the first.
        layout: of the signature header.
        tag: what precedes a signature there, or its key.
        content: what is signed.
        unit: of the timestamp; None where there is none.
        tolerance: how far a timestamp may be from our clock, either way, in seconds.
        key: how the key is made of the secret.
        delivery_header: header that names the delivery; None: the `id` of `headers`, if there is one.
        delivery_field: field of a JSON body that names the delivery, or None.
        also_stripped: further headers that carry a credential, to be removed unread.
    """

    name: str
    source: str
    headers: tuple[HeaderNames, ...]
    layout: Layout = Layout.WHOLE
    tag: str = ""
    algorithm: Algorithm = "sha256"
    encoding: EncodingName = "hex"
    content: tuple[ContentPart, ...] = parse_content("{body}")
    unit: Unit | None = None
    tolerance: float = 300.0
    key: KeyFormat = KeyFormat.RAW
    delivery_header: str | None = None
    delivery_field: str | None = None
    also_stripped: tuple[str, ...] = ()


def spelled_out(kind: HmacAuth) -> Scheme:
    """Return the scheme that a flow file spells out."""
    timestamp = kind.timestamp
    names = HeaderNames(kind.header, timestamp.header if timestamp else None, kind.id_header)
    return Scheme(
        name=kind.kind,
        source="",
        headers=(names,),
        tag=kind.prefix,
        algorithm=kind.algorithm,
        encoding=kind.encoding,
        content=kind.parts,
        unit=timestamp.unit if timestamp else None,
        tolerance=timestamp.tolerance if timestamp else 0.0,
    )
