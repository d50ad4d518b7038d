"""Text in charsets that are slow to decode, and properties of continued lines and escapes."""

from __future__ import annotations

from support.hostile.body import Body, filled, numbered

PROPERTIES = "text/x-java-properties"

_CHARSETS = (
    ("utf-8", "\U0001f600é"),
    ("utf-8-sig", "é"),
    ("utf-16", "\U0001f600é"),
    ("utf-16-be", "é"),
    ("utf-32", "é"),
    ("iso-8859-1", "é"),
    ("iso-8859-15", "€"),
    ("windows-1252", "€"),
    ("koi8-r", "ж"),
    ("cp037", "é"),
    ("mac-roman", "é"),
    ("hp-roman8", "é"),
    ("shift_jis", "アa"),
    ("shift_jisx0213", "か\u309aア"),
    ("euc_jp", "丂ア"),
    ("euc_jis_2004", "か\u309a"),
    ("iso-2022-jp", "アa"),
    ("iso-2022-jp-2", "アa한"),
    ("iso-2022-jp-ext", "アaｱ"),
    ("iso-2022-kr", "한a"),
    ("euc_kr", "한뷁"),
    ("johab", "한뷁"),
    ("big5", "中a"),
    ("big5hkscs", "Ê̄中"),
    ("gb2312", "中a"),
    ("gb18030", "中\U0001f600"),
    ("hz", "中a"),
)
"""Charsets, and what in them takes long: characters of many bytes, and changes from one set to another."""


def bodies(max_bytes):
    for charset, text in _CHARSETS:
        content = "".join([text] * (max_bytes // len(text))).encode(charset, "ignore")[:max_bytes]
        yield Body(f"text/{charset}", f"text/plain; charset={charset}", content)
        yield Body(f"text/{charset}, other bytes", f"text/plain; charset={charset}", b"\x80" * max_bytes)
    yield Body("text/changes of charset", "text/plain; charset=iso-2022-jp", filled(b"\x1b$B\x1b(B", max_bytes))
    yield Body("text/changes to ASCII", "text/plain; charset=iso-2022-jp-2", filled(b"\x1b(B", max_bytes))
    yield Body("text/shifts", "text/plain; charset=hz", filled(b"~{~}", max_bytes))
    yield Body("text/shifts in and out", "text/plain; charset=iso-2022-kr", filled(b"\x0e\x0f", max_bytes, b"\x1b$)C"))
    yield Body("text/UTF-8 that was cut", "text/plain", filled(b"a", max_bytes, after=b"\xf0\x9f"))
    yield Body("text/no charset", "text/plain; charset=punycode", filled(b"a-", max_bytes))


def properties(max_bytes):
    """Properties."""
    for name, content in property_lists(max_bytes):
        yield Body(f"properties/{name}", PROPERTIES, content)
    yield Body("properties/UTF-16", f"{PROPERTIES}; charset=utf-16", ("a\\\n" * (max_bytes // 6 - 1)).encode("utf-16"))


def property_lists(max_bytes):
    """Lists of properties, as (name, bytes)."""
    yield "continued lines", filled(b"a\\\n", max_bytes)
    yield "continued lines of one value", filled(b"a\\\r\n  ", max_bytes, b"a=")
    yield "continued lines of nothing", filled(b"\\\n", max_bytes)
    yield "continued lines of spaces", filled(b" \\\n", max_bytes)
    yield "continued lines of backslashes", filled(b"\\\\\\\n", max_bytes)
    yield "values of continued lines", filled(b"a=b\\\n" * 100 + b"\n", max_bytes)
    yield "lines", filled(b"a\n", max_bytes)
    yield "lines of one value", filled(b"a=b\n", max_bytes)
    yield "different lines", numbered(b"%x=\n", max_bytes)
    yield "as many lines as are read", filled(b"a=\n", min(max_bytes, 30_000))
    yield "as many escaped lines", filled(b"\\a=\\b\n", min(max_bytes, 70_000))
    yield "as many nested lines", numbered(b"%x[b]=\n", min(max_bytes, 90_000))
    yield "empty lines", b"\n" * max_bytes
    yield "carriage returns", b"\r" * max_bytes
    yield "comments", filled(b"#\n", max_bytes)
    yield "one comment", filled(b"#", max_bytes)
    yield "backslashes", filled(b"\\\\", max_bytes, b"a")
    yield "backslashes and a separator", filled(b"\\\\", max_bytes, b"a", b"=")
    yield "an odd number of backslashes", filled(b"\\\\", max_bytes, b"a\\")
    yield "escapes", filled(b"\\b", max_bytes, b"a=")
    yield "escaped separators", filled(b"\\=", max_bytes, b"a")
    yield "escaped spaces", filled(b"\\ ", max_bytes, b"a")
    yield "spaces", filled(b" ", max_bytes, b"a", b"b")
    yield "spaces before a separator", filled(b" ", max_bytes, b"a", b"=b")
    yield "tabs before a line", filled(b"\t", max_bytes, after=b"b")
    yield "escaped letters", filled(rb"\u0061", max_bytes, b"a=")
    yield "escaped pairs of surrogates", filled(rb"\ud83d\ude00", max_bytes, b"a=")
    yield "half pairs of surrogates", filled(rb"\ud83d", max_bytes, b"a=")
    yield "letters of two bytes", filled("é".encode(), max_bytes, b"a=")
    yield "one name of brackets", filled(b"[b]", max_bytes, b"a", b"=1")
    yield "one name of opening brackets", filled(b"[", max_bytes, b"a", b"=1")
