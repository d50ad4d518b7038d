"""XML: tiny elements, endless tags, names, text in the smallest pieces there are, and what blows up."""

from __future__ import annotations

from support.hostile.body import Body, filled, numbered

XML = "application/xml"

_ENTITIES = (
    b'<!DOCTYPE a [<!ENTITY x0 "xxxxxxxxxx">'
    + b"".join(b'<!ENTITY x%d "%b">' % (level, b"&x%d;" % (level - 1) * 10) for level in range(1, 10))
    + b"]><a>&x9;</a>"
)


def documents(max_bytes):
    """Documents, as (name, bytes)."""
    yield from _elements(max_bytes)
    yield from _tags(max_bytes)
    yield from _between_tags(max_bytes)


def _elements(max_bytes):
    yield "empty elements", filled(b"<b/>", max_bytes, b"<a>", b"</a>")
    yield "elements", filled(b"<b></b>", max_bytes, b"<a>", b"</a>")
    yield "elements of text", filled(b"<b>c</b>", max_bytes, b"<a>", b"</a>")
    yield "different elements", numbered(b"<b%x/>", max_bytes, b"<a>", b"</a>")
    yield "elements between text", filled(b"c<b/>", max_bytes, b"<a>", b"</a>")
    yield "elements with an attribute", filled(b"<b c=''/>", max_bytes, b"<a>", b"</a>")
    yield "elements with a namespace", filled(b"<b xmlns='c'/>", max_bytes, b"<a>", b"</a>")
    yield "elements with prefixes", numbered(b"<n%x:b/>", max_bytes, b"<a>", b"</a>")
    yield "elements within elements", filled(b"<b><c><d><e/></d></c></b>", max_bytes, b"<a>", b"</a>")
    yield "elements as deep as are read", filled(b"<b>" * 90 + b"</b>" * 90, max_bytes, b"<a>", b"</a>")
    yield "deep elements", b"<a>" * (max_bytes // 7) + b"</a>" * (max_bytes // 7)
    yield "deep elements without end", filled(b"<a>", max_bytes)


def _tags(max_bytes):
    yield "one tag of attributes", numbered(b" b%x=''", max_bytes, b"<a", b"/>")
    yield "one tag of one attribute", filled(b" b=''", max_bytes, b"<a", b"/>")
    yield "tags of attributes", filled(numbered(b" b%x=''", 60_000, b"<b", b"/>"), max_bytes, b"<a>", b"</a>")
    yield "tags of some attributes", filled(numbered(b" b%x=''", 500, b"<b", b"/>"), max_bytes, b"<a>", b"</a>")
    yield "one tag of namespaces", numbered(b" xmlns:b%x='c'", max_bytes, b"<a", b"/>")
    yield "one tag of spaces", filled(b" ", max_bytes, b"<a", b"/>")
    yield "one tag without end", filled(b" b='c'", max_bytes, b"<a")
    yield "one long name", filled(b"a", max_bytes, b"<", b"/>")
    yield "long names", numbered(b"<b" + b"b" * 10_000 + b"%x/>", max_bytes, b"<a>", b"</a>")
    yield "long names of attributes", numbered(b"<b " + b"b" * 10_000 + b"%x=''/>", max_bytes, b"<a>", b"</a>")
    yield "one long value", filled(b"c", max_bytes, b"<a b='", b"'/>")
    yield "long values of references", filled(filled(b"&#65;", 60_000, b"<b c='", b"'/>"), max_bytes, b"<a>", b"</a>")
    yield "long values of line ends", filled(filled(b"\n", 60_000, b"<b c='", b"'/>"), max_bytes, b"<a>", b"</a>")


def _between_tags(max_bytes):
    yield "text", filled(b"c", max_bytes, b"<a>", b"</a>")
    yield "lines of text", filled(b"\n", max_bytes, b"<a>", b"c</a>")
    yield "carriage returns", filled(b"\r", max_bytes, b"<a>", b"c</a>")
    yield "closing brackets", filled(b"]", max_bytes, b"<a>", b"</a>")
    yield "entities", filled(b"&amp;", max_bytes, b"<a>", b"</a>")
    yield "character references", filled(b"&#1;".replace(b"1", b"65"), max_bytes, b"<a>", b"</a>")
    yield "one long character reference", filled(b"0", max_bytes, b"<a>&#", b"65;</a>")
    yield "empty CDATA sections", filled(b"<![CDATA[]]>", max_bytes, b"<a>", b"</a>")
    yield "CDATA sections", filled(b"<![CDATA[c]]>", max_bytes, b"<a>", b"</a>")
    yield "one CDATA section", filled(b"]>", max_bytes, b"<a><![CDATA[", b"]]></a>")
    yield "one CDATA section without end", filled(b"]]", max_bytes, b"<a><![CDATA[")
    yield "comments", filled(b"<!---->", max_bytes, b"<a>", b"</a>")
    yield "comments between text", filled(b"c<!---->", max_bytes, b"<a>", b"</a>")
    yield "one comment", filled(b"- ", max_bytes, b"<a><!--", b"--></a>")
    yield "one comment without end", filled(b"- ", max_bytes, b"<!--")
    yield "comments before the root", filled(b"<!---->", max_bytes, after=b"<a/>")
    yield "comments after the root", filled(b"<!---->", max_bytes, b"<a/>")
    yield "instructions", filled(b"<?b?>", max_bytes, b"<a>", b"</a>")
    yield "one instruction", filled(b"?", max_bytes, b"<a><?b ", b"?></a>")
    yield "space before the root", filled(b" ", max_bytes, after=b"<a/>")
    yield "space after the root", filled(b" ", max_bytes, b"<a/>")
    yield "one open tag after another", filled(b"<", max_bytes, b"<a>")
    yield "a document type", filled(b"<!ENTITY b 'c'>", max_bytes, b"<!DOCTYPE a [", b"]><a/>")
    yield "a document type without end", filled(b" ", max_bytes, b"<!DOCTYPE a [")
    yield "entities of entities", filled(b" ", max_bytes, _ENTITIES)
    yield "UTF-16", ("<a>" + "<b/>" * (max_bytes // 8 - 8) + "</a>").encode("utf-16")
    yield "a declaration without end", filled(b" ", max_bytes, b"<?xml version='1.0'")
    yield "an encoding of a long name", filled(b"a", max_bytes, b"<?xml version='1.0' encoding='", b"'?><a/>")


def bodies(max_bytes):
    for name, content in documents(max_bytes):
        yield Body(f"xml/{name}", XML, content)
    latin = "application/xml; charset=iso-8859-2"
    yield Body("xml/another charset", latin, filled(b"\xe9", max_bytes, b"<a>", b"</a>"))
    yield Body("xml/another charset of names", latin, filled(b"<\xe9/>", max_bytes, b"<a>", b"</a>"))
    yield Body("xml/a charset of many bytes", f"{XML}; charset=shift_jis", filled(b"\x83A", max_bytes, b"<a>", b"</a>"))
    yield Body("xml/soap", "application/soap+xml", filled(b"<b/>", max_bytes, b"<a>", b"</a>"))
