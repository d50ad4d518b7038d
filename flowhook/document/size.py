"""Parses sizes in bytes: `10MiB`, `512KiB`, `1MB`, or plain bytes.

Source: IEC 80000-13 for the binary prefixes.
"""

from __future__ import annotations

import re
from typing import Final

from flowhook.errors import InvalidError

_UNITS: Final = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_SIZE: Final = re.compile(r"([0-9]{1,15})(?: ?(B|[kKMG]B|[KMG]iB))?")


def parse_size(value: object) -> int:
    """Return a size in bytes, at least 0. The caller enforces its own maximum.

    Args:
        value: a number of bytes, or a string of an integer and one of the units B, kB, MB, GB, KiB, MiB, GiB.

    Raises:
        InvalidError: it is neither (`SIZE_INVALID`).
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidError("expected a size such as 10MiB, 512KiB or a number of bytes", reason="SIZE_INVALID")
    return int(match[1]) * _UNITS[match[2] or "B"]
