"""What was entered in a form of a replay and does not apply; the digest of what it chooses."""

from __future__ import annotations

from support.cases import cases

from admin.console.replay import DEFAULTS, digest, ignored


@cases(
    ("given", "named"),
    [
        ({}, []),
        ({"body": "x"}, ["input that you edited"]),
        ({"content_type": "text/plain"}, ["input that you edited"]),
        ({"body": "x", "input": "edited"}, []),
        ({"task": "/do/0/a", "output": "1", "start": "task"}, []),
        ({"task": "/do/0/a", "output": "1", "start": "failed_task"}, ["task that you gave", "output that you gave"]),
    ],
)
def test_what_does_not_apply_is_named(given, named):
    sentences = ignored({**DEFAULTS, **given})
    assert [each.partition(" below is not used: choose “")[0] for each in sentences] == [
        f"The {each}" for each in named
    ]


def test_what_the_form_contained_from_the_start_was_not_entered():
    untouched = {"output": "", "body": "{}", "content_type": "application/json"}
    shown = {**DEFAULTS, **untouched, "task": "/do/0/first"}
    assert ignored(shown, untouched) == []
    assert len(ignored({**shown, "body": ""}, untouched)) == 1


def test_each_choice_changes_the_digest_and_ends_of_lines_do_not():
    assert len({digest({**DEFAULTS, name: "other"}) for name in DEFAULTS} | {digest(DEFAULTS)}) == len(DEFAULTS) + 1
    assert digest({}) == digest(DEFAULTS)
    assert digest({"body": "a\r\nb"}) == digest({"body": "a\nb"})
