"""Finds parameters of query strings, and removes them and headers that repeat them, whatever the percent-encoding.

Source: https://url.spec.whatwg.org/#application/x-www-form-urlencoded, which is how senders and flows read them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import unquote_to_bytes

from flowhook.signatures.types import SignatureError

MAX_PARAMETERS: Final = 1000
"""Maximum number of parameters in a query string that is searched for credentials."""

MAX_CREDENTIALS: Final = 16
"""Maximum number of values that are searched for in headers; a credential that is sent twice is refused."""

MIN_CREDENTIAL_BYTES: Final = 4
"""A shorter value is not a credential, and nearly every header would contain it."""

MAX_ENCODINGS: Final = 2
"""Levels of nested percent-encoding that are decoded."""


def parameter_values(query: str, name: str) -> list[tuple[bytes, ...]]:
    """Return the values of a parameter, in order, each with its possible readings: `+` as a space, and as itself.

    Raises:
        SignatureError: there are too many parameters (`SIGNATURE_MALFORMED`).
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


def credentials_of(query: str, names: Collection[str]) -> list[bytes]:
    """Return the decoded values of parameters that may be credentials, only the first few of them.

    Args:
        query: without `?`, percent-encoding preserved.
        names: decoded names, as in `Verifier.credential_query`.
    """
    found: list[bytes] = []
    for field in query.split("&") if names and query else ():
        for part in (field, *field.split(";")) if ";" in field else (field,):
            found += [unquote_to_bytes(_encode(part.partition("=")[2]))] if name_of(part) in names else []
        if len(found) >= MAX_CREDENTIALS:
            break
    return [value for value in found if len(value) >= MIN_CREDENTIAL_BYTES]


def contains_credential(value: bytes, credentials: Collection[bytes]) -> bool:
    """Whether the value of a header contains a credential: as it is, or percent-encoded once or twice."""
    wanted = [_spaced(credential) for credential in credentials]
    for level in range(MAX_ENCODINGS + 1):
        if level:
            if b"%" not in value:
                return False
            value = unquote_to_bytes(value)
        spaced = _spaced(value)
        if any(credential in spaced for credential in wanted):
            return True
    return False


def without_credential_copies(
    headers: tuple[tuple[str, bytes], ...], credentials: Collection[bytes]
) -> tuple[tuple[str, bytes], ...]:
    """Return header fields without those that contain one of the credentials."""
    if not credentials or not contains_credential(b"\n".join([value for _, value in headers]), credentials):
        return headers
    return tuple([field for field in headers if not contains_credential(field[1], credentials)])


def _spaced(text: bytes) -> bytes:
    """Replace every `+` by a space, because some senders write a space as `+`, and others write both."""
    return text.replace(b"+", b" ")


def name_of(field: str) -> str:
    """Return the decoded name of one `name=value` of a query string. Never raises."""
    name = field.partition("=")[0]
    if "%" not in name and "+" not in name:
        return name
    return unquote_to_bytes(_encode(name).replace(b"+", b" ")).decode("utf-8", "replace")


def strip_query(query: str, names: Collection[str]) -> str:
    """Return a query string without some parameters; the rest of it is unchanged.

    Args:
        query: without `?`, percent-encoding preserved.
        names: decoded names, as in `Verifier.credential_query`. A field is also removed if one of them follows a `;`
            in it: some senders use that as a separator.
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
