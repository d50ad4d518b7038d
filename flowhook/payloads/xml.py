"""XML to an object, by one convention.

An element is its text, or an object when it has attributes or children: attributes under `@name`, text under `#text`,
children under their names, an array where a name is repeated. Empty elements are null, surrounding whitespace is
dropped, prefixes of namespaces stay part of names, comments are left out. A document is an object of its one root.

There are no DTDs and no entities but XML's own five, so that nothing can be fetched or blown up.

Source: https://github.com/martinblech/xmltodict, whose convention it is; https://docs.python.org/3/library/xml.html,
"XML vulnerabilities".
"""

from __future__ import annotations

import codecs
from typing import Any, Final
from xml.parsers import expat

import xmltodict

from flowhook.errors import InvalidError

MAX_DEPTH: Final = 100
MAX_ELEMENTS: Final = 200_000


class _Refused(Exception):  # noqa: N818 - says why, and is translated before anyone sees it
    """The document has something that is not allowed."""


class _Parsers:
    """Stands for the `expat` module where xmltodict makes its parser."""

    @staticmethod
    def ParserCreate(encoding: str | None, separator: str | None) -> expat.XMLParserType:  # noqa: N802 - expat's name
        """Return a parser that refuses DTDs."""
        parser = expat.ParserCreate(encoding, separator)
        parser.StartDoctypeDeclHandler = _refuse_doctype
        return parser


def parse_xml(body: bytes, charset: str) -> dict[str, Any]:
    """Return a document.

    Args:
        body: the document; a byte order mark or its declaration says how it is encoded.
        charset: of the Content-Type, which counts more (RFC 7303, section 3); or empty.

    Raises:
        InvalidError: it is not well-formed, has a DTD, or too many or too deep elements (`BODY_INVALID`).
    """
    elements = 0

    def count(path: list[Any], key: str, data: Any) -> tuple[str, Any]:
        nonlocal elements
        elements += 1
        if len(path) > MAX_DEPTH or elements > MAX_ELEMENTS:
            raise _Refused(f"has more than {MAX_ELEMENTS} elements, or nests them deeper than {MAX_DEPTH}")
        return key, data

    try:
        document: dict[str, Any] = xmltodict.parse(
            body, encoding=_encoding(charset), expat=_Parsers, postprocessor=count
        )
    except _Refused as refusal:
        raise InvalidError(f"the XML {refusal}", reason="BODY_INVALID") from None
    except (expat.ExpatError, ValueError, LookupError, UnicodeError, RecursionError):
        raise InvalidError("the body is not well-formed XML", reason="BODY_INVALID") from None
    return document


def _encoding(charset: str) -> str | None:
    if not charset:
        return None
    try:
        return codecs.lookup(charset).name
    except (LookupError, ValueError):
        raise InvalidError("the charset is not known", reason="CHARSET_UNKNOWN") from None


def _refuse_doctype(*_: object) -> None:
    raise _Refused("has a document type declaration")
