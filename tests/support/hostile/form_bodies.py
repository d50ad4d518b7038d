"""Urlencoded forms: names of brackets and escapes, and more fields than anybody has."""

from __future__ import annotations

from support.hostile.body import Body, filled, numbered

FORM = "application/x-www-form-urlencoded"

MAX_FIELDS = 10_000
"""As many fields as are read: beyond them a body is refused, which is cheap."""


def documents(max_bytes):
    """Forms, as (name, bytes)."""
    yield "fields", b"a=&" * (max_bytes // 3)
    yield "as many fields as are read", filled(b"a=&", min(max_bytes, 3 * MAX_FIELDS))
    yield "as many different fields", numbered(b"%x=", min(max_bytes, 7 * MAX_FIELDS), between=b"&")
    yield "as many escaped fields", filled(b"%41=%41&", min(max_bytes, 8 * MAX_FIELDS))
    yield "as many fields of percent signs", filled(b"%=%&", min(max_bytes, 4 * MAX_FIELDS))
    yield "as many elements", numbered(b"a[%x]=", min(max_bytes, 9 * MAX_FIELDS), between=b"&")
    yield "as many appended", filled(b"a[]=&", min(max_bytes, 5 * MAX_FIELDS))
    yield "as many rows", numbered(b"a[%x][b]=", min(max_bytes, 12 * MAX_FIELDS), between=b"&")
    yield "ampersands", b"&" * max_bytes
    yield "equals signs", b"=" * max_bytes
    yield "one name of brackets", filled(b"[b]", max_bytes, b"a", b"=1")
    yield "one name of empty brackets", filled(b"[]", max_bytes, b"a", b"=1")
    yield "one name of opening brackets", b"a" + b"[" * (max_bytes - 1)
    yield "one name of closing brackets", b"a[" + b"]" * (max_bytes - 2)
    yield "one name of nested brackets", b"a" + b"[" * (max_bytes // 2 - 1) + b"]" * (max_bytes // 2 - 1)
    yield "one name of escaped brackets", filled(b"%5Bb%5D", max_bytes, b"a", b"=1")
    yield "one long name", b"a" * max_bytes
    yield "one long name of plus signs", b"+" * max_bytes
    yield "names as deep as are read", numbered(b"%x" + b"[b]" * 32 + b"=", max_bytes, between=b"&")
    yield "arrays as deep as are read", numbered(b"%x" + b"[]" * 32 + b"=", max_bytes, between=b"&")
    yield "elements as deep as are read", numbered(b"%x" + b"[0]" * 32 + b"=", max_bytes, between=b"&")
    yield "values and members of one name", filled(b"a=&a[b]=&a[b][c]=&", max_bytes)
    yield "long names", numbered(b"n" * 1000 + b"%x=", max_bytes, between=b"&")
    yield "names of equal hashes as indexes", numbered(b"a[%x00000000]=", max_bytes, between=b"&")
    yield "escapes", filled(b"%41", max_bytes, b"a=")
    yield "escapes of two bytes", filled(b"%C3%A9", max_bytes, b"a=")
    yield "escapes that are no UTF-8", filled(b"%FF", max_bytes, b"a=")
    yield "escapes between letters", filled(b"%41a", max_bytes, b"a=")
    yield "escapes between letters that are not ASCII", filled("%41é".encode(), max_bytes, b"a=")
    yield "percent signs", filled(b"%", max_bytes, b"a=")
    yield "percent signs between letters that are not ASCII", filled("%é".encode(), max_bytes, b"a=")
    yield "half escapes", filled(b"%4", max_bytes, b"a=")


def bodies(max_bytes):
    for name, content in documents(max_bytes):
        yield Body(f"forms/{name}", FORM, content)
    for charset in ("iso-8859-1", "shift_jis", "iso-2022-jp", "utf-16", "gb18030", "cp500"):
        for name, text in (("escapes between letters", "%41é"), ("percent signs between letters", "%ア")):
            piece = text.encode(charset, "ignore")
            yield Body(f"forms/{charset}, {name}", f"{FORM}; charset={charset}", filled(piece, max_bytes))
