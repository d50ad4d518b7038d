r"""Urlencoded forms, Java properties, and nesting of fields by the brackets in their names: `a=1&b[c]=2&d[]=3`.

`a[b]` is a member, `a[]` appends, `a[0]` is an element; a repeated name becomes an array. If a name has both a value
and members (`a=1&a[b]=2`), the value is stored under an empty key.

Own code, in linear time for any input. For forms the standard library's takes microseconds for each field, and runs a
few lines of Python for each percent sign, with an exception for each that does not begin an escape; here escapes are
rewritten as quoted-printable (RFC 2045, section 6.7), which differs only in the first character of an escape, and
decoded in C. For properties (`key=value` lines, continued by a trailing backslash, with `\uXXXX` and other escapes) the
library javaproperties scans a continued line once for each of its physical lines.

Source: https://url.spec.whatwg.org/#urlencoded-parsing; RFC 3986, section 2.1; the brackets are PHP's and Rails', which
no standard describes; https://docs.oracle.com/en/java/javase/21/docs/api/java.base/java/util/Properties.html#load(java.io.Reader).
"""

from __future__ import annotations

import re
from binascii import a2b_qp
from collections.abc import Iterable, Iterator
from typing import Any, Final

from flowhook.errors import InvalidError
from flowhook.limits import KIB, MIB
from flowhook.payloads.content_type import codec_of, decode_charset

MAX_BYTES: Final = 2 * MIB  # one urlencoded body, decompressed
MAX_FIELDS: Final = 10_000
MAX_DEPTH: Final = 32  # brackets of one name
MAX_BRACKETS: Final = 20_000  # brackets of all names: each may become an object of its own
MAX_PROPERTIES_BYTES: Final = 512 * KIB  # one body, decompressed; counted in characters
MAX_LINES: Final = 10_000  # physical lines of one body, including comments and continuations

_NO_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_VALUE: Final = ""
_APPEND: Final = None
_ASCII: Final = bytes(range(128))
_SHIFTED: Final = ("iso2022", "hz", "johab")  # charsets in which an ASCII byte may be part of a multi-byte character
_Tree = dict[str | None, Any]  # by key: a subtree, or a list of values. `_APPEND` is the key of what `[]` appended
_SPACE: Final = " \t\f"
_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPED: Final = {"t": "\t", "n": "\n", "f": "\f", "r": "\r"}
_KEY: Final = re.compile(r"(?:[^\\ \t\f=:]++|\\.)*+")


def percent_decode(data: bytes) -> bytes:
    """Decode percent escapes; a percent sign that does not begin an escape is unchanged."""
    return decode_escapes(escape_stray_percents(data)) if b"%" in data else data


def escape_stray_percents(data: bytes) -> bytes:
    """Escape each percent sign that does not begin an escape, for `decode_escapes`."""
    for _ in range(2):  # of two in a row the first begins no escape; the second pass finds pairs that overlap the first
        data = data.replace(b"%%", b"%25%")
    return _NO_ESCAPE.sub(b"%25", data)


def decode_escapes(data: bytes) -> bytes:
    """Decode percent escapes in (a part of) a result of `escape_stray_percents`."""
    return a2b_qp(data.replace(b"=", b"=3D").replace(b"%", b"="))


def parse_urlencoded(body: bytes, charset: str) -> dict[str, Any]:
    """Parse an `application/x-www-form-urlencoded` body."""
    if len(body) > MAX_BYTES:
        raise InvalidError(f"a form has at most {MAX_BYTES // MIB} MiB", reason="BODY_TOO_LARGE")
    text = decode_charset(body, charset)
    if text.count("&") >= MAX_FIELDS:
        raise InvalidError(f"a form has at most {MAX_FIELDS} fields", reason="BODY_INVALID")
    escaped_in = _charset_of_escapes(text, charset)
    try:
        return nest_fields(_fields(text.encode(escaped_in), escaped_in))
    except UnicodeError:
        raise InvalidError(f"the form has escapes that are not {escaped_in}", reason="BODY_INVALID") from None


def _charset_of_escapes(text: str, charset: str) -> str:
    """Return the charset of percent-encoded bytes: UTF-8 where an ASCII byte may stand for another character."""
    codec = codec_of(charset or "utf-8").name
    if codec in ("utf-8", "utf-8-sig") or _ASCII.decode(codec, "replace") != _ASCII.decode("ascii"):
        return "utf-8"
    return "utf-8" if codec.startswith(_SHIFTED) and not text.isascii() else codec


def _fields(data: bytes, charset: str) -> Iterable[tuple[str, str]]:
    if b"+" in data:
        data = data.replace(b"+", b" ")
    if b"%" in data:
        data = escape_stray_percents(data)
    for field in data.split(b"&"):
        if not field:
            continue
        name, _, value = field.partition(b"=")
        if b"%" in name:
            name = decode_escapes(name)
        if b"%" in value:
            value = decode_escapes(value)
        yield name.decode(charset), value.decode(charset)


def nest_fields(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return fields as an object, nested by the brackets in their names."""
    tree: _Tree = {}
    left = MAX_BRACKETS
    for name, value in fields:
        place = tree
        key: str | None = name
        if "[" in name:
            keys = _keys(name)
            key = keys.pop()
            left -= len(keys)
            if left < 0:
                raise InvalidError(f"the names of a form have at most {MAX_BRACKETS} brackets", reason="BODY_INVALID")
            for each in keys:
                below = place.get(each)
                if not isinstance(below, dict):
                    below = place[each] = {} if below is None else {_VALUE: below}
                place = below
        known = place.get(key)
        if isinstance(known, dict):
            place, known, key = known, known.get(_VALUE), _VALUE
        if known is None:
            place[key] = [value]
        else:
            known.append(value)
    return {str(key): _plain(below) for key, below in tree.items()}


def _keys(name: str) -> list[str | None]:
    """Return the text before the brackets of a name and the contents of each; only the name if they do not match.

    Brackets are counted before they are split: a name may have a million.
    """
    start = name.find("[")
    inner = name[start + 1 : -1]
    between = inner.count("][")
    if not start or name[-1] != "]" or not inner.count("[") == inner.count("]") == between:
        return [name]
    if between >= MAX_DEPTH:
        raise InvalidError(f"a field's name has at most {MAX_DEPTH} brackets", reason="BODY_INVALID")
    return [name[:start], *[key or _APPEND for key in inner.split("][")]]


def _plain(below: Any) -> Any:
    """Convert a tree to JSON: lists of one value become that value, and objects with only indexes as keys arrays."""
    if isinstance(below, list):
        return below[0] if len(below) == 1 else below
    appended = below.pop(_APPEND, None)
    if appended is not None:
        appended = appended if isinstance(appended, list) else [_plain(appended)]
        if not below:
            return appended
    if _are_indexes(below):
        return [*[_plain(below[key]) for key in sorted(below, key=int)], *(appended or ())]
    members = {
        key: item[0] if isinstance(item, list) and len(item) == 1 else _plain(item) for key, item in below.items()
    }
    if appended is not None:
        members["[]"] = appended
    return members


def _are_indexes(keys: Iterable[str]) -> bool:
    for key in keys:  # noqa: SIM110 - a generator takes three times as long, and mostly the first key decides
        if not _INDEX.fullmatch(key):
            return False
    return True


def parse_properties(text: str) -> dict[str, Any]:
    """Parse properties to an object, nested by the brackets in their names as in forms."""
    if len(text) > MAX_PROPERTIES_BYTES:
        raise InvalidError(f"properties have at most {MAX_PROPERTIES_BYTES // KIB} KiB", reason="BODY_TOO_LARGE")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.count("\n", 0, -1) >= MAX_LINES:
        raise InvalidError(f"properties have at most {MAX_LINES} lines", reason="BODY_INVALID")
    items: list[tuple[str, str]] = []
    for line in _lines(text):
        key: str = _KEY.match(line)[0]  # type: ignore[index] # it matches at least the empty text
        value = line[len(key) :].lstrip(_SPACE)
        if value[:1] in ("=", ":"):
            value = value[1:].lstrip(_SPACE)
        items.append((_unescaped(key), _unescaped(value)))
    return nest_fields(items)


def _unescaped(text: str) -> str:
    """Return a key or a value with its escapes resolved; surrogates in pairs are one character."""
    if "\\" not in text:
        return text
    try:
        return _ESCAPE.sub(_character, text).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except ValueError:  # no hexadecimal digits, or a lone surrogate
        raise InvalidError("the properties have an invalid escape", reason="BODY_INVALID") from None


def _character(escape: re.Match[str]) -> str:
    text = escape[1]
    return chr(int(text[1:], 16)) if text[0] == "u" else _ESCAPED.get(text, text)


def _lines(text: str) -> Iterator[str]:
    """Yield logical lines: continuations joined, comments and empty lines dropped, indentation removed."""
    lines = iter(text.split("\n"))
    for each in lines:
        line = each.lstrip(_SPACE)
        if line[:1] in ("", "#", "!"):
            continue
        if line[-1] == "\\":
            pieces: list[str] = []
            while _is_continued(line):
                pieces.append(line[:-1])
                line = next(lines, "").lstrip(_SPACE)
            line = "".join((*pieces, line))
        if line:
            yield line


def _is_continued(line: str) -> bool:
    """Whether a line ends in a backslash that is not escaped itself."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1
