"""Shows bytes in hexadecimal and ASCII, 16 a line, as `xxd` does; pure."""

from __future__ import annotations

from typing import Final

WIDTH: Final = 16


def hexdump(data: bytes) -> str:
    """Return the lines: offset, bytes, and printable ASCII characters."""
    return "\n".join(
        f"{offset:08x}  {line.hex(' '):<{WIDTH * 3 - 1}}  {''.join(chr(c) if 32 <= c < 127 else '.' for c in line)}"  # noqa: PLR2004
        for offset in range(0, len(data), WIDTH)
        if (line := data[offset : offset + WIDTH])
    )
