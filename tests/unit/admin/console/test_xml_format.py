"""XML is indented where white space means nothing, and stays what it is."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from admin.console.body_view import indent_xml


def test_each_child_has_a_line():
    assert indent_xml('<?xml version="1.0"?><a k="1"><b>x</b>\n<c/><d><e></e></d><!-- f --></a>\n') == (
        '<?xml version="1.0"?>\n<a k="1">\n  <b>x</b>\n  <c/>\n  <d>\n    <e></e>\n  </d>\n  <!-- f -->\n</a>'
    )


@cases(
    "element",
    [
        "<b>two words <i>and</i> <u>more</u> </b>",
        "<b><![CDATA[ <i> ]]></b>",
        "<b>  </b>",
        "<b>\n</b>",
        '<b xml:space="preserve"> <i/> </b>',
        "<b>&lt;&#10;</b>",
    ],
)
def test_white_space_that_may_mean_something_stays(element):
    assert indent_xml(f"<a>{element}<c/></a>") == f"<a>\n  {element}\n  <c/>\n</a>"


def test_attributes_may_hold_what_ends_a_tag_elsewhere():
    assert indent_xml("""<a x=">" y='/>"'><b/></a>""") == """<a x=">" y='/>"'>\n  <b/>\n</a>"""


@cases(
    "text",
    [
        "",
        "hello world",
        '{"a": 1}',
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "a < b > c",
        "<p>one<br>two</p>",
        "<!DOCTYPE html><html></html>",
        '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>',
        "<a>&nbsp;</a>",
        "<a>\ud800</a>",
    ],
)
def test_what_is_not_xml_or_not_safe_is_not_indented(text):
    assert indent_xml(text) is None


XML = st.recursive(
    st.sampled_from(["<a/>", "<b> </b>", "<c>x y</c>", "<d>x<e/> y</d>", "<!-- x  y -->", "<?p q?>"]),
    lambda inner: st.lists(inner | st.sampled_from([" ", "\n", "text"])).map(lambda all_: f"<f>{''.join(all_)}</f>"),
)


@given(XML)
def test_nothing_but_white_space_between_elements_is_changed(inner):
    text = f"<root>{inner}</root>"
    indented = indent_xml(text)
    assert indented is not None
    assert re.sub(r"\s", "", indented) == re.sub(r"\s", "", text)
    assert _content(indented) == _content(text)


def _content(text):
    builder = ET.TreeBuilder(insert_comments=True, insert_pis=True)
    return _content_of(ET.fromstring(text, ET.XMLParser(target=builder)))


def _content_of(element):
    """An element without white space that stands among elements alone."""
    texts = [element.text or "", *(child.tail or "" for child in element)]
    if len(element) and not any(text.strip() for text in texts):
        texts = []
    return element.tag, texts, [_content_of(child) for child in element]


@pytest.mark.parametrize(
    "text",
    ["<a>" + "<b/>" * 16_000 + "</a>", "<a " * 20_000, "<!--" * 16_000, "<a>" * 20_000, "<a x='" + '"' * 64_000],
)
def test_hostile_text_takes_time_in_proportion(text):
    indent_xml(text)  # under the test's time limit: quadratic time would exceed it by far
