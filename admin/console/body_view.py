"""Views of a body, made from its bytes: as text, indented if it is JSON or XML, and in hexadecimal; pure."""

from __future__ import annotations

from typing import Any, Final

from admin.console.json_format import indent_json
from admin.console.xml_format import indent_xml

MAX_SHOWN: Final = 64 * 1024  # bytes of a body that a page shows as text
MAX_HEX: Final = 4 * 1024  # bytes of a body that a page shows in hexadecimal
_WIDTH: Final = 16  # bytes in a line in hexadecimal


def body_view(body: bytes) -> dict[str, Any]:
    """Return the views of a body, of which the first `MAX_SHOWN` bytes are shown; indented only if it is whole."""
    shown = body[:MAX_SHOWN]
    cut = len(shown) < len(body)
    text = shown.decode("utf-8", "replace")
    return {
        "text": text,
        "pretty": None if cut else indented(text),
        "hex": hexdump(shown[:MAX_HEX]),
        "cut": cut,
        "hex_cut": len(shown) > MAX_HEX,
        "utf8": "\ufffd" not in text or shown.decode("utf-8", "ignore").encode() == shown,
        "size": len(shown),
    }


def indented(text: str) -> str | None:
    """Return JSON or XML with one member, element or child a line; None if the text is neither."""
    return indent_json(text) or indent_xml(text)


def hexdump(data: bytes) -> str:
    """Return bytes as `xxd` shows them, 16 a line: offset, bytes, and printable ASCII characters."""
    return "\n".join(
        f"{offset:08x}  {line.hex(' '):<{_WIDTH * 3 - 1}}  {''.join(chr(c) if 32 <= c < 127 else '.' for c in line)}"  # noqa: PLR2004
        for offset in range(0, len(data), _WIDTH)
        if (line := data[offset : offset + _WIDTH])
    )
