"""Query strings: finding a parameter and removing it, whatever its percent-encoding.

Source: https://url.spec.whatwg.org/#application/x-www-form-urlencoded, which is how senders and flows read them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import unquote_to_bytes

from flowhook.signatures.types import SignatureError

MAX_PARAMETERS: Final = 1000
"""Of a query string in which credentials are looked for."""


def parameter_values(query: str, name: str) -> list[tuple[bytes, ...]]:
    """Return the values of a parameter, in order, each in its possible readings: `+` as a space, and as itself.

    Raises:
        SignatureError: there are too many others (`SIGNATURE_MALFORMED`).
    """
    if query.count("&") >= MAX_PARAMETERS:
        raise SignatureError(f"the query has more than {MAX_PARAMETERS} parameters", reason="SIGNATURE_MALFORMED")
    values: list[tuple[bytes, ...]] = []
    for field in query.split("&"):
        if name_of(field) == name:
            raw = _encode(field.partition("=")[2])
            values.append(
                (unquote_to_bytes(raw.replace(b"+", b" ")), *([unquote_to_bytes(raw)] if b"+" in raw else []))
            )
    return values


def name_of(field: str) -> str:
    """Return the decoded name of one `name=value` of a query string. Never raises."""
    name = field.partition("=")[0]
    if "%" not in name and "+" not in name:
        return name
    return unquote_to_bytes(_encode(name).replace(b"+", b" ")).decode("utf-8", "replace")


def strip_query(query: str, names: Collection[str]) -> str:
    """Return a query string without some parameters, the rest of it character for character.

    Args:
        query: without `?`, percent-encoding kept.
        names: decoded names, as in `Verifier.credential_query`. A field goes, too, when one of them follows a `;` in
            it: some senders separate by that.
    """
    if not names or not query:
        return query
    return "&".join(
        field
        for field in query.split("&")
        if name_of(field) not in names and not any(name_of(part) in names for part in field.split(";")[1:])
    )


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
