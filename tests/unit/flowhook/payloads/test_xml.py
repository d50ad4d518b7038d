"""XML becomes an object by the documented convention; what could fetch or blow up is refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
import xmltodict
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from flowhook.errors import InvalidError
from flowhook.payloads.xml import MAX_ATTRIBUTES, MAX_DEPTH, MAX_NAMES, MAX_TOKEN_BYTES, parse_xml


@cases(
    ("document", "expected"),
    [
        ("<a/>", {"a": None}),
        ("<a> text </a>", {"a": "text"}),
        ("<a><b>1</b><b>2</b><c/></a>", {"a": {"b": ["1", "2"], "c": None}}),
        ('<a x="1">t<!-- no --></a>', {"a": {"@x": "1", "#text": "t"}}),
        ('<n:a xmlns:n="urn:x"><n:b/></n:a>', {"n:a": {"@xmlns:n": "urn:x", "n:b": None}}),
        ("<a><![CDATA[<b>]]>&amp;&#65;</a>", {"a": "<b>&A"}),
        ('<?xml version="1.0" encoding="ISO-8859-1"?><a>é</a>', {"a": "é"}),
    ],
)
def test_a_document_is_an_object_of_its_root(document, expected):
    assert parse_xml(document.encode("latin-1"), "") == expected


def test_the_charset_of_the_request_counts_more_than_the_declaration():
    assert parse_xml('<?xml version="1.0" encoding="utf-8"?><a>é</a>'.encode("latin-1"), "latin-1") == {"a": "é"}


def test_a_byte_order_mark_is_understood():
    assert parse_xml("<a>é</a>".encode("utf-16"), "") == {"a": "é"}


@cases(
    "document",
    [
        b"",
        b"<a>",
        b"<a></b>",
        b"text",
        b"<a/><b/>",
        b"<a>&unknown;</a>",
        b'<!DOCTYPE a SYSTEM "http://example.com/a.dtd"><a/>',
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        b'<!DOCTYPE a [<!ENTITY x "x"><!ENTITY y "&x;&x;&x;&x;">]><a>&y;&y;</a>',
        b"<a>\xff</a>",
        b'<?xml version="1.0" encoding="klingon"?><a/>',
        b'<?xml version="1.0" encoding="unicode_escape"?><a>\\q</a>',
    ],
)
def test_what_is_not_plain_and_well_formed_is_refused(document):
    with pytest.raises(InvalidError) as caught:
        parse_xml(document, "")
    assert caught.value.reason == "BODY_INVALID"


@pytest.mark.parametrize("end", [b"</a>", b""])
def test_depth_is_bounded_from_the_start(end):
    assert parse_xml(b"<a>" * MAX_DEPTH + b"</a>" * MAX_DEPTH, "")
    with pytest.raises(InvalidError, match="deeper than 100"):
        parse_xml(b"<a>" * (MAX_DEPTH + 1) + end * MAX_DEPTH, "")


def test_the_number_of_elements_is_bounded():
    with pytest.raises(InvalidError, match="200000 elements and attributes"):
        parse_xml(b"<a>" + b"<b/>" * 200_001 + b"</a>", "")


@cases(
    ("document", "why"),
    [
        (b"<a" + b" b='c'" * 1_000_000 + b"/>", "more than 64 KiB"),
        (b"<a " + b" " * 2 * MAX_TOKEN_BYTES + b"/>", "more than 64 KiB"),
        (b"<a><!--" + b"- " * MAX_TOKEN_BYTES + b"--></a>", "more than 64 KiB"),
        (b"<a>" + b"<?b?>" * 9 + b"<?b " + b"?" * 2 * MAX_TOKEN_BYTES + b"?></a>", "more than 64 KiB"),
        (b"<a" + b"".join(b" b%d=''" % number for number in range(MAX_ATTRIBUTES + 1)) + b"/>", "1000 attributes"),
        (b"<a>" + b"".join(b"<b%d/>" % number for number in range(MAX_NAMES + 1)) + b"</a>", "20000 different names"),
        (b"<a>" + b"<b c='' d=''/>" * 70_000 + b"</a>", "200000 elements and attributes"),
    ],
)
def test_what_is_too_much_is_refused_with_its_cause(document, why):
    with pytest.raises(InvalidError, match=why):
        parse_xml(document, "")


@pytest.mark.parametrize("size", [MAX_TOKEN_BYTES - 5, MAX_TOKEN_BYTES + 1, 10 * MAX_TOKEN_BYTES])
def test_text_may_be_longer_than_a_tag(size):
    text = "é" * (size // 2)
    assert parse_xml(f"<a><b>{text}</b><!-- --><c><![CDATA[{text}]]></c></a>".encode(), "") == {
        "a": {"b": text, "c": text}
    }


ELEMENTS = st.recursive(
    st.sampled_from(
        ["", " ", "text", "&amp;", "<!-- c -->", "<![CDATA[<x>]]>", "<?p i?>", "\n", "<b/>", "<n:b c=' '/>"]
    ),
    lambda inner: st.tuples(
        st.sampled_from(["a", "b", "n:c"]),
        st.sampled_from(["", " x='1'", " xmlns:n='u' y='&lt;'"]),
        st.lists(inner, max_size=4),
    ).map(lambda drawn: f"<{drawn[0]}{drawn[1]}>{''.join(drawn[2])}</{drawn[0]}>"),
    max_leaves=15,
)


@given(ELEMENTS)
def test_documents_are_what_the_library_whose_convention_it_is_makes_of_them(inner):
    document = f"<a>{inner}</a>"
    assert parse_xml(document.encode(), "") == xmltodict.parse(document)


@given(st.text(st.sampled_from('<>/ab="& \n![]-?x'), max_size=60))
def test_any_text_is_parsed_or_refused(text):
    with suppress(InvalidError):
        parse_xml(text.encode(), "")
