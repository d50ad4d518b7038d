"""XML to an object, by one convention.

An element is its text, or an object when it has attributes or children: attributes under `@name`, text under `#text`,
children under their names, an array where a name is repeated. Empty elements are null, surrounding whitespace is
dropped, prefixes of namespaces stay part of names, comments are left out. A document is an object of its one root.

There are no DTDs and no entities but XML's own five, so that nothing can be fetched or blown up.

Source: https://github.com/martinblech/xmltodict, whose convention it is; https://docs.python.org/3/library/xml.html,
"XML vulnerabilities".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from xml.parsers import expat

import xmltodict

from flowhook.errors import InvalidError
from flowhook.payloads.content_type import codec_of

MAX_DEPTH: Final = 100
MAX_ELEMENTS: Final = 200_000


class _Refused(Exception):  # noqa: N818 - says why, and is translated before anyone sees it
    """The document has something that is not allowed."""


class _Parsers:
    """Stands for the `expat` module where xmltodict makes its parser."""

    @staticmethod
    def ParserCreate(encoding: str | None, separator: str | None) -> _Parser:  # noqa: N802 - expat's name
        """Return a parser that refuses DTDs and whatever is too much."""
        return _Parser(expat.ParserCreate(encoding, separator))


class _Parser:
    """An expat parser that counts elements and attributes as they begin, so that it never goes far beyond a limit."""

    _parser: expat.XMLParserType

    def __init__(self, parser: expat.XMLParserType) -> None:
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.XmlDeclHandler = _check_encoding
        object.__setattr__(self, "_parser", parser)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._parser, name, _counting(value) if name == "StartElementHandler" else value)

    def Parse(self, data: bytes, final: bool) -> None:  # noqa: FBT001, N802 - as expat has it
        """Parse."""
        self._parser.Parse(data, final)


def _counting(start: Callable[[str, list[str]], None]) -> Callable[[str, list[str]], None]:
    """Return a handler that refuses what has too many or too deep elements; `start` is xmltodict's."""
    path: list[Any] = start.__self__.path  # type: ignore[attr-defined]
    elements = 0

    def count(name: str, attributes: list[str]) -> None:
        nonlocal elements
        elements += 1 + len(attributes) // 2
        if len(path) >= MAX_DEPTH or elements > MAX_ELEMENTS:
            raise _Refused(f"has more than {MAX_ELEMENTS} elements, or nests them deeper than {MAX_DEPTH}")
        start(name, attributes)

    return count


def parse_xml(body: bytes, charset: str) -> dict[str, Any]:
    """Return a document.

    Args:
        body: the document; a byte order mark or its declaration says how it is encoded.
        charset: of the Content-Type, which counts more (RFC 7303, section 3); or empty.

    Raises:
        InvalidError: it is not well-formed, has a DTD, or too many or too deep elements (`BODY_INVALID`).
    """
    try:
        document: dict[str, Any] = xmltodict.parse(body, encoding=_encoding(charset), expat=_Parsers)
    except _Refused as refusal:
        raise InvalidError(f"the XML {refusal}", reason="BODY_INVALID") from None
    except (expat.ExpatError, ValueError, LookupError, UnicodeError, RecursionError):
        raise InvalidError("the body is not well-formed XML", reason="BODY_INVALID") from None
    return document


def _encoding(charset: str) -> str | None:
    return codec_of(charset).name if charset else None


def _check_encoding(_version: str, encoding: str | None, _standalone: int) -> None:
    try:
        _encoding(encoding or "")
    except InvalidError:
        raise _Refused("is in an encoding that is not known") from None


def _refuse_doctype(*_: object) -> None:
    raise _Refused("has a document type declaration")
