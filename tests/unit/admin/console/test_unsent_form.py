"""Forms that are sent again: what they do, how they are carried, which of their fields can be edited."""

from __future__ import annotations

import pytest
from support.cases import cases

from admin.console.page import LONG, carried, carry, summary, unsent_form
from flowhook.errors import InvalidError


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/flows", "Create a flow, or give it a new revision; or check its file."),
        ("/flows/a%2Fb/pause", "Pause a flow: events are accepted and queued, and not run."),
        ("/jobs", "Create a bulk job: one action on all executions that meet conditions."),
        ("/jobs/new", "Count the executions that a job would work on, and show some; nothing is created."),
    ],
)
def test_a_form_says_what_it_does(path, said):
    assert summary(path) == said


@cases("path", ["", "/", "/logout", "/login", "/flows/", "//evil.example/flows", "/flows/a/b/pause"])
def test_no_form_is_sent_to_other_paths(path):
    assert summary(path) == ""


def test_a_body_is_carried_byte_for_byte_without_characters_to_escape():
    body = bytes(range(256)) * 3
    assert carried(carry(body)) == body
    assert carry(body).replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("value", ["a", "é", "YQ==\n"])
def test_what_carries_no_form_is_refused(value):
    with pytest.raises(InvalidError):
        carried(value)


def test_texts_of_several_lines_can_be_edited_and_others_stay():
    form = unsent_form("/flows", {"document": ["a\nb"], "again": ["1", ""], "body": ["x" * (LONG + 1)]})
    assert form.editable == [("document", "a\nb"), ("body", "x" * (LONG + 1))]
    assert form.fixed == [("again", "1"), ("again", "")]


def test_invalid_fields_can_be_edited_however_short_they_are():
    form = unsent_form("/flows/a/pause", {"reason": ["r"], "color": ["red"]}, {"color": "there is no such parameter"})
    assert (form.editable, form.fixed) == ([("color", "red")], [("reason", "r")])
