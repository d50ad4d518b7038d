"""Looking for a header of which there must be one."""

from __future__ import annotations

from collections.abc import Sequence

from flowhook.signatures.types import SignatureError


def single_header(headers: Sequence[tuple[str, bytes]], name: str, *, kind: str) -> bytes | None:
    """Return the value of a header, or None when it is not there.

    Args:
        headers: lower-case names and values.
        name: lower case.
        kind: `SIGNATURE` or `CREDENTIALS`: what the reason of an error starts with.

    Raises:
        SignatureError: it is there more than once: which one counts is anyone's guess, so none does.
    """
    values = [value for key, value in headers if key == name]
    if not values:
        return None
    if len(values) > 1:
        raise SignatureError(f"header {name} is there {len(values)} times", reason=f"{kind}_MALFORMED")
    return values[0]
