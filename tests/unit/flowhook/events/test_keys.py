"""What becomes of values that flows declare as search attributes."""

from __future__ import annotations

from support.cases import cases

from flowhook.events.keys import MAX_VALUE, SearchAttributes


@cases(
    ("value", "text"),
    [
        ("a", "a"),
        ("4711", "4711"),
        (4711, "4711"),
        (7.5, "7.5"),
        (True, "true"),
        (False, "false"),
        ("<b>é\0", "<b>é\0"),
        ("x" * 201, "x" * MAX_VALUE),
    ],
)
def test_a_text_is_taken_as_it_is_and_a_number_or_a_boolean_as_json(value, text):
    assert SearchAttributes({"order": ".body.order"}).of_view({"body": {"order": value}}) == (("order", text),)


@cases("body", [{}, {"order": None}, {"order": ""}, {"order": [1]}, {"order": {}}, [1], "text", None])
def test_what_has_no_such_value_has_no_attribute(body):
    search = SearchAttributes({"order": ".body.order", "method": "${ .method }"})
    assert search.of_view({"body": body, "method": "POST"}) == (("method", "POST"),)
