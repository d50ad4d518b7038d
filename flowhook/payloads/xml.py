"""Parser of XML to objects, by the convention of xmltodict.

An element becomes its text, or an object if it has attributes or children: attributes under `@name`, text under
`#text`, children under their names, and an array where a name is repeated. Empty elements become null, surrounding
whitespace is dropped, namespace prefixes stay part of names, comments are ignored. A document becomes an object with
its root as the only member.

DTDs, and entities other than XML's own five, are rejected, so a document can't load external resources or expand
entities. The parser receives the document in chunks and rejects a token that does not end within the next chunk,
because it holds a whole tag in memory, with a string for each name and value. Own code on top of expat, because a
library takes twice as long for each element, and this runs on event loops.

Source: https://github.com/martinblech/xmltodict; https://docs.python.org/3/library/xml.html, "XML vulnerabilities".
"""

from __future__ import annotations

from typing import Any, Final
from xml.parsers import expat

from flowhook.errors import InvalidError
from flowhook.limits import KIB
from flowhook.payloads.content_type import codec_of

MAX_DEPTH: Final = 100
MAX_ELEMENTS: Final = 200_000  # elements and attributes of one document
MAX_ATTRIBUTES: Final = 1000  # attributes of one element
MAX_NAMES: Final = 20_000  # different names of elements and attributes of one document

MAX_TOKEN_BYTES: Final = 64 * KIB
"""A tag, a comment or an instruction; depending on its position, one of up to twice this size may pass."""


class _Refused(Exception):  # noqa: N818 - internal, translated to an InvalidError
    """The document contains something that is not allowed."""


class _Document:
    """Builds a document from the parser's events: state of the innermost open element, and a stack of the outer ones.

    Attributes:
        names: names of elements and attributes, as interned by the parser.
    """

    __slots__ = ("_around", "_left", "_members", "_texts", "names")

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._around: list[tuple[dict[str, Any] | None, list[str]]] = []
        self._left = MAX_ELEMENTS
        self._members: dict[str, Any] | None = None
        self._texts: list[str] = []

    @property
    def root(self) -> dict[str, Any]:
        return self._members or {}

    def start(self, _name: str, attributes: list[str]) -> None:
        around = self._around
        self._left -= 1
        around.append((self._members, self._texts))
        if len(around) > MAX_DEPTH:
            raise _Refused(f"nests elements deeper than {MAX_DEPTH}")
        self._members = None
        self._texts = []
        if attributes:
            if len(attributes) > 2 * MAX_ATTRIBUTES:
                raise _Refused(f"has an element of more than {MAX_ATTRIBUTES} attributes")
            self._left -= len(attributes) // 2
            names = iter(attributes)
            self._members = {f"@{name}": value for name, value in zip(names, names, strict=True)}
        if len(self.names) > MAX_NAMES:
            raise _Refused(f"has more than {MAX_NAMES} different names")
        if self._left < 0:
            raise _Refused(f"has more than {MAX_ELEMENTS} elements and attributes")

    def end(self, name: str) -> None:
        value: Any = self._members
        if self._texts and (text := "".join(self._texts).strip()):
            if value is None:
                value = text
            else:
                value["#text"] = text
        members, self._texts = self._around.pop()
        if members is None:
            self._members = {name: value}
            return
        self._members = members
        if name not in members:
            members[name] = value
        elif isinstance(known := members[name], list):
            known.append(value)
        else:
            members[name] = [known, value]

    def text(self, data: str) -> None:
        self._texts.append(data)


def parse_xml(body: bytes, charset: str) -> dict[str, Any]:
    """Parse a document, in an encoding that a byte order mark or the XML declaration determines.

    The `charset` of the Content-Type takes precedence, if it is not empty (RFC 7303, section 3).

    Raises:
        InvalidError: it is not well-formed, has a DTD, too many or too deeply nested elements, or a tag that is too
            large (`BODY_INVALID`).
    """
    document = _Document()
    try:
        _feed(_parser(document, charset), body)
    except _Refused as refusal:
        raise InvalidError(f"the XML {refusal}", reason="BODY_INVALID") from None
    except (expat.ExpatError, ValueError, LookupError, UnicodeError):
        raise InvalidError("the body is not well-formed XML", reason="BODY_INVALID") from None
    return document.root


def _feed(parser: expat.XMLParserType, body: bytes) -> None:
    end = 0
    while end < len(body):
        end += len(piece := body[end : end + MAX_TOKEN_BYTES])
        parser.Parse(piece, False)
        if end - parser.CurrentByteIndex > MAX_TOKEN_BYTES:
            raise _Refused(f"has a tag, a comment or an instruction of more than {MAX_TOKEN_BYTES // KIB} KiB")
    parser.Parse(b"", True)


def _parser(document: _Document, charset: str) -> expat.XMLParserType:
    parser = expat.ParserCreate(_encoding(charset), intern=document.names)
    parser.ordered_attributes = True
    parser.buffer_text = True
    parser.XmlDeclHandler = _check_encoding
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = document.start
    parser.EndElementHandler = document.end
    parser.CharacterDataHandler = document.text
    return parser


def _encoding(charset: str) -> str | None:
    return codec_of(charset).name if charset else None


def _check_encoding(_version: str, encoding: str | None, _standalone: int) -> None:
    try:
        _encoding(encoding or "")
    except InvalidError:
        raise _Refused("is in an encoding that is not known") from None


def _refuse_doctype(*_: object) -> None:
    raise _Refused("has a document type declaration")
