"""Multipart bodies: tiny parts, long headers, boundaries that nearly match, fields with names of brackets."""

from __future__ import annotations

from support.hostile.body import Body, filled, numbered

BOUNDARY = b"b" * 70
END = b"--" + BOUNDARY + b"--\r\n"
START = b"--" + BOUNDARY + b"\r\n"

SHORT_END = b"--b--\r\n"
SHORT_START = b"--b\r\n"

_NAMED = b'Content-Disposition: form-data; name="'
_JSON = b"Content-Type: application/json\r\n"


def _part(header, content=b""):
    return START + header + b"\r\n" + content + b"\r\n"


def _short(header=b"", content=b""):
    return SHORT_START + header + b"\r\n" + content + b"\r\n"


def _long(max_bytes):
    """Bodies with the longest boundary that there may be."""
    yield "parts", filled(_part(b""), max_bytes, after=END)
    yield "as many parts as are read", filled(_part(b""), min(max_bytes, 90_000), after=END)
    yield "one large file", filled(b"x", max_bytes, _part(_NAMED + b'a"; filename="f"\r\n')[:-2], b"\r\n" + END)
    yield "one large field", filled(b"x", max_bytes, _part(_NAMED + b'a"\r\n')[:-2], b"\r\n" + END)
    yield "line ends", filled(b"\r\n", max_bytes, _part(b"")[:-2], END)
    yield "boundaries but for their last letter", filled(b"\r\n--" + BOUNDARY[1:], max_bytes, _part(b"")[:-2], END)
    yield "halves of boundaries", filled(b"\r\n--" + BOUNDARY[35:], max_bytes, _part(b"")[:-2], END)
    yield "letters of the boundary", filled(b"b", max_bytes, _part(b"")[:-2], b"\r\n" + END)
    yield "letters of the boundary and no end", filled(b"b", max_bytes, _part(b"")[:-2])
    yield "a preamble of boundaries but for their last letter", filled(b"\r\n--" + BOUNDARY[1:], max_bytes, after=END)
    yield "a preamble without end", filled(b"\r\n--" + BOUNDARY[1:], max_bytes)
    yield "an epilogue", filled(b"\r\n--" + BOUNDARY, max_bytes, END)
    yield "space after a boundary", filled(b" ", max_bytes, START[:-2], b"\r\n" + END)


def _brief(max_bytes):
    """Bodies with a boundary of one letter."""
    yield "tiny parts", filled(_short(), max_bytes, after=SHORT_END)
    yield "as many tiny parts as are read", filled(_short(), min(max_bytes, 11_000), after=SHORT_END)
    yield "as many fields as are read", numbered(_short(_NAMED + b'%x"\r\n'), min(max_bytes, 58_000), after=SHORT_END)
    yield "as many files", numbered(_short(_NAMED + b'%x"; filename="f"\r\n'), min(max_bytes, 74_000), after=SHORT_END)
    yield (
        "fields as deep as are read",
        numbered(_short(_NAMED + b"%x" + b"[b]" * 32 + b'"\r\n'), min(max_bytes, 150_000), after=SHORT_END),
    )
    yield "one header of lines", filled(b"a:\r\n", max_bytes, SHORT_START, b"\r\n\r\n" + SHORT_END)
    yield "one header without end", filled(b"a:\r\n", max_bytes, SHORT_START)
    yield "one header folded", filled(b"\r\n ", max_bytes, SHORT_START + b"a:", b"\r\n\r\n\r\n" + SHORT_END)
    for name, piece in (
        ("lines", b"a:\r\n"),
        ("folds", b"\r\n "),
        ("spaces that fold", b"\r\n" + b" " * 1000),
        ("parameters", b";a=b"),
        ("semicolons", b";"),
        ("quotes", b'"'),
        ("quotes after parameters", b';a="'),
        ("parameters of escapes", b';a="\\""'),
        ("backslashes", b'\\"'),
        ("parameters that never end", b';a="\\'),
        ("sections", b";a*1=b"),
        ("extended parameters", b";a*=utf-8''%41"),
        ("escapes", b"%41"),
        ("slashes", b"/"),
        ("control characters", b"\x01"),
        ("colons", b":"),
        ("spaces", b" "),
        ("no UTF-8", b"\xff"),
    ):
        header = filled(piece, 16_000, b'Content-Disposition: form-data; filename="f', b"\r\n")
        if name in ("parameters", "parameters of escapes", "semicolons", "sections", "extended parameters"):
            header = filled(piece, 16_000, b"Content-Disposition: form-data", b"\r\n")
        yield f"headers of {name}", filled(_short(header), max_bytes, after=SHORT_END)
    brackets = filled(b"[b]", 16_000, _NAMED + b"a", b'"\r\n')
    yield "names of brackets", filled(_short(brackets), max_bytes, after=SHORT_END)
    opening = filled(b"[", 16_000, _NAMED + b"a", b'"\r\n')
    yield "names of opening brackets", filled(_short(opening), max_bytes, after=SHORT_END)
    arrays = filled(b"[],", max_bytes, SHORT_START + _NAMED + b'a"\r\n' + _JSON + b"\r\n[", b"0]\r\n" + SHORT_END)
    yield "a field of empty arrays", arrays
    small = _short(_NAMED + b'a"\r\n' + _JSON, filled(b"{},", 10_000, b"[", b"0]"))
    yield "fields of empty objects", filled(small, max_bytes, after=SHORT_END)
    deep = _short(_NAMED + b'a"\r\n' + _JSON, b"[" * 1000 + b"]" * 1000)
    yield "fields of deep arrays", filled(deep, max_bytes, after=SHORT_END)
    odd = _short(_NAMED + b'a"\r\nContent-Type: text/plain; charset=iso-2022-jp\r\n', b"\x1b$B!!\x1b(B" * 1000)
    yield "fields in an odd charset", filled(odd, max_bytes, after=SHORT_END)


def bodies(max_bytes):
    for boundary, made in ((BOUNDARY, _long), (b"b", _brief)):
        for name, content in made(max_bytes):
            for kind in ("form-data", "mixed"):
                yield Body(f"multipart/{kind}, {name}", f"multipart/{kind}; boundary={boundary.decode()}", content)
