"""How parameters are written: the examples of the specification, and what has no form.

Source: OpenAPI Specification 3.1.1, section 4.8.12.6 "Style Examples".
"""

from __future__ import annotations

import pytest
from support.cases import cases

from runner.components.openapi.parameter_styles import (
    Parameter,
    UnwritableError,
    in_cookie,
    in_header,
    in_path,
    in_query,
)

ARRAY = ["blue", "black", "brown"]
OBJECT = {"R": 100, "G": 200, "B": 150}


def parameter(place, style, explode, **more):
    return Parameter("color", place, required=True, style=style, explode=explode, **more)


@cases(
    ("style", "explode", "value", "expected"),
    [
        ("simple", False, "blue", "blue"),
        ("simple", False, ARRAY, "blue,black,brown"),
        ("simple", True, ARRAY, "blue,black,brown"),
        ("simple", False, OBJECT, "R,100,G,200,B,150"),
        ("simple", True, OBJECT, "R=100,G=200,B=150"),
        ("label", False, "blue", ".blue"),
        ("label", False, ARRAY, ".blue,black,brown"),
        ("label", True, ARRAY, ".blue.black.brown"),
        ("label", False, OBJECT, ".R,100,G,200,B,150"),
        ("label", True, OBJECT, ".R=100.G=200.B=150"),
        ("matrix", False, "blue", ";color=blue"),
        ("matrix", False, "", ";color"),
        ("matrix", False, ARRAY, ";color=blue,black,brown"),
        ("matrix", True, ARRAY, ";color=blue;color=black;color=brown"),
        ("matrix", False, OBJECT, ";color=R,100,G,200,B,150"),
        ("matrix", True, OBJECT, ";R=100;G=200;B=150"),
        ("simple", False, "a/b ?#ü", "a%2Fb%20%3F%23%C3%BC"),
        ("simple", False, True, "true"),
        ("simple", False, 1.5, "1.5"),
    ],
)
def test_in_a_path(style, explode, value, expected):
    assert in_path(parameter("path", style, explode), value) == expected


@cases(
    ("style", "explode", "value", "expected"),
    [
        ("form", True, "blue", "color=blue"),
        ("form", True, "", "color="),
        ("form", False, ARRAY, "color=blue,black,brown"),
        ("form", True, ARRAY, "color=blue&color=black&color=brown"),
        ("form", False, OBJECT, "color=R,100,G,200,B,150"),
        ("form", True, OBJECT, "R=100&G=200&B=150"),
        ("spaceDelimited", False, ARRAY, "color=blue%20black%20brown"),
        ("spaceDelimited", False, OBJECT, "color=R%20100%20G%20200%20B%20150"),
        ("pipeDelimited", False, ARRAY, "color=blue%7Cblack%7Cbrown"),
        ("pipeDelimited", False, OBJECT, "color=R%7C100%7CG%7C200%7CB%7C150"),
        ("deepObject", True, OBJECT, "color%5BR%5D=100&color%5BG%5D=200&color%5BB%5D=150"),
        ("form", False, ["a,b", "c&d"], "color=a%2Cb,c%26d"),
        ("form", True, ["a", None, "b"], "color=a&color=b"),
        ("form", True, [], ""),
    ],
)
def test_in_a_query(style, explode, value, expected):
    assert in_query(parameter("query", style, explode), value) == expected


def test_reserved_characters_stay_where_the_document_says_so_but_for_those_that_end_a_value():
    assert in_query(parameter("query", "form", True, reserved=True), "/a:b?&=+#") == "color=/a:b?%26%3D%2B%23"


@pytest.mark.parametrize(
    ("explode", "value", "expected"),
    [
        (False, "blue, or not", "blue, or not"),
        (False, ARRAY, "blue,black,brown"),
        (False, OBJECT, "R,100,G,200,B,150"),
        (True, OBJECT, "R=100,G=200,B=150"),
    ],
)
def test_in_a_header_nothing_is_percent_encoded(explode, value, expected):
    assert in_header(parameter("header", "simple", explode), value) == expected


def test_in_a_cookie():
    assert in_cookie(parameter("cookie", "form", True), "a b") == "color=a%20b"
    assert in_cookie(parameter("cookie", "form", False), ARRAY) == "color=blue,black,brown"
    assert in_cookie(parameter("cookie", "form", True), OBJECT) == "R=100; G=200; B=150"


def test_a_parameter_with_a_media_type_is_written_in_it():
    json = parameter("query", "form", True, media_type="application/json")
    assert in_query(json, {"a": [1]}) == "color=%7B%22a%22%3A%5B1%5D%7D"
    assert in_header(json, [1]) == "[1]"
    assert in_path(json, [1]) == "%5B1%5D"


@cases(
    ("write", "given", "value", "expected"),
    [
        (in_path, parameter("path", "simple", False), "", "is empty"),
        (in_path, parameter("path", "simple", False), [], "is empty"),
        (in_path, parameter("path", "simple", False), "..", "leads to another path"),
        (in_path, parameter("path", "label", False), ".", "leads to another path"),
        (in_query, parameter("query", "form", True), [["a"]], "nested arrays or objects"),
        (in_query, parameter("query", "deepObject", True), {"a": {"b": 1}}, "nested arrays or objects"),
        (in_header, parameter("header", "simple", False), {"a": []}, "nested arrays or objects"),
        (in_query, parameter("query", "form", True, media_type="text/csv"), [1], "has to be a text"),
    ],
)
def test_what_has_no_form_is_refused(write, given, value, expected):
    with pytest.raises(UnwritableError, match=expected):
        write(given, value)
