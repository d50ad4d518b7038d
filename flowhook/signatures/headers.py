"""Looks up a header that must not be repeated."""

from __future__ import annotations

from collections.abc import Sequence

from flowhook.signatures.types import SignatureError


def single_header(headers: Sequence[tuple[str, bytes]], name: str, *, kind: str) -> bytes | None:
    """Return the value of a header, or None when it is not there.

    Args:
        headers: lower-case names and values.
        name: lower case.
        kind: `SIGNATURE` or `CREDENTIALS`, the prefix of the reason of an error.

    Raises:
        SignatureError: it is repeated: no value is preferred, because that would be a guess.
    """
    values = [value for key, value in headers if key == name]
    if not values:
        return None
    if len(values) > 1:
        raise SignatureError(f"header {name} occurs {len(values)} times", reason=f"{kind}_MALFORMED")
    return values[0]
