"""Converts the custom kinds `hmac` and `public_key` of flow files to a `Scheme`."""

from __future__ import annotations

from typing import Final, cast

from flowhook.document.models.custom_signature import HmacAuth, PublicKeyAuth
from flowhook.providers.scheme import (
    FieldLocation,
    FieldLocations,
    KeyFormat,
    Layout,
    LocationKind,
    Scheme,
    SignatureMethod,
)

_LAYOUTS: Final = {
    "whole": Layout.WHOLE,
    "spaces": Layout.SPACES,
    "commas": Layout.COMMAS,
    "pairs": Layout.PAIRS,
}
_READINGS: Final = {"utf8": KeyFormat.RAW, "hex": KeyFormat.HEX, "base64": KeyFormat.BASE64}
_METHODS: Final = {"ed25519": SignatureMethod.ED25519, "ecdsa": SignatureMethod.ECDSA, "rsa": SignatureMethod.RSA}


def custom_scheme(kind: HmacAuth | PublicKeyAuth) -> Scheme:
    """Return the scheme of a custom kind in a flow file."""
    timestamp = kind.timestamp
    id_location = kind.id_location
    return Scheme(
        locations=(
            FieldLocations(
                _location(kind.location),
                None if timestamp is None else _location(timestamp.location),
                None if id_location is None else _location(id_location),
            ),
        ),
        method=SignatureMethod.HMAC if isinstance(kind, HmacAuth) else _METHODS[kind.algorithm],
        layout=_LAYOUTS[kind.layout],
        separator=kind.separator or ",",
        tag=kind.prefix,
        algorithm=kind.algorithm if isinstance(kind, HmacAuth) else kind.hash,
        encoding=kind.encoding,
        content=kind.parts,
        unit=timestamp.unit if timestamp else None,
        tolerance=timestamp.tolerance if timestamp else 0.0,
        key=_READINGS[kind.key.encoding] if isinstance(kind, HmacAuth) else KeyFormat.RAW,
        key_prefix=kind.key.prefix if isinstance(kind, HmacAuth) else "",
    )


def _location(location: tuple[str, str]) -> FieldLocation:
    kind, name = location
    return FieldLocation(cast("LocationKind", kind), name)
