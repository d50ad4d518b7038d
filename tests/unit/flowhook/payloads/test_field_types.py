from __future__ import annotations

import pytest
from support.cases import cases

from flowhook.errors import InvalidError
from flowhook.payloads.field_types import with_types

FORM = "application/x-www-form-urlencoded; charset=utf-8"


def view(body=None, query=None, content_type=FORM):
    return {"query": query or {}, "content_type": content_type, "body": body}


@cases(
    "kind, text, value",
    [
        ("number", "20", 20),
        ("number", "-1.5", -1.5),
        ("number", "2e3", 2000.0),
        ("integer", "20", 20),
        ("boolean", "on", True),
        ("boolean", "false", False),
        ("number", ["1", "2.5"], [1, 2.5]),
    ],
)
def test_fields_of_forms_and_queries_have_their_declared_type(kind, text, value):
    data = with_types(view({"a": text, "b": "1"}, {"a": text}), {"a": kind, "absent": "number"}, strict=True)
    assert (data["body"], data["query"]) == ({"a": value, "b": "1"}, {"a": value})
    assert type(data["body"]["a"]) is type(value)


@cases(
    "kind, text",
    [
        *[("number", each) for each in ("", " 1", "1,5", "0x10", "1e999", "NaN", "٣", "1" * 400, "true")],
        ("integer", "1.0"),
        ("integer", "9" * 19),
        ("boolean", "1"),
        ("boolean", "True"),
    ],
)
def test_a_field_of_another_type_is_refused_by_its_name_and_left_in_events_of_before(kind, text):
    for data in (view({"a": text}), view(query={"a": text})):
        with pytest.raises(InvalidError, match=f"^the field a is not an? {kind}$"):
            with_types(data, {"a": kind}, strict=True)
        assert with_types(data, {"a": kind}) == data


def test_members_of_json_and_inputs_that_are_no_requests_are_left_alone():
    for data in (view({"a": "1"}, content_type="application/json"), {"a": "1"}, None, view(["1"])):
        assert with_types(data, {"a": "number"}, strict=True) == data
    assert with_types([view({"a": "1"})], {"a": "number"})[0]["body"] == {"a": 1}
