"""No error shows the value of a secret, however it came there."""

from __future__ import annotations

import pytest

from runner.interpreter.effects import Result
from runner.interpreter.errors import Kind, error
from runner.interpreter.redaction import redact

SECRETS = {"bank": {"user": "u", "password": 'pa"55/wörd'}, "token": "t0ken-0f-mine"}


@pytest.mark.parametrize(
    "text",
    [
        'pa"55/wörd',
        'pa\\"55/wörd',
        'pa\\"55/w\\u00f6rd',
        "pa%2255%2Fw%C3%B6rd",
        "t0ken-0f-mine",
        "at0ken-0f-minet0ken-0f-mine",
    ],
)
def test_a_value_is_taken_out_in_each_of_its_spellings_and_the_rest_is_kept(text):
    told = redact(f"refused {text} just now", SECRETS)
    assert "…" in told
    assert not {"pa", "0f", "rd"} & set(told.replace("%", " ").replace("\\", " ").split())
    assert (told.startswith("refused "), told.endswith(" just now")) == (True, True)


def test_what_is_too_short_to_be_a_secret_is_left_in():
    assert redact("such a failure", SECRETS) == "such a failure"


@pytest.mark.parametrize("key", ["type", "title", "detail"])
def test_a_raised_error_shows_no_secret(execute, key):
    raised = {"type": "https://example.com/e", "status": 400, key: '${ "https:" + $secrets.token }'}
    outcome = execute([{"a": {"raise": {"error": raised}}}], {}, secrets=SECRETS)
    assert "t0ken" not in str(outcome.error)
    assert outcome.error.as_dict()[key].endswith("…")


def test_the_error_of_a_call_shows_no_secret_of_the_flow(execute):
    world = execute.World({"f": Result(None, error(Kind.COMMUNICATION, "no t0ken-0f-mine", instance="/do/0/a"))})
    assert execute([{"a": {"call": "f"}}], {}, world=world, secrets=SECRETS).error.detail == "no …"
    assert "t0ken" not in repr(world.performed[0])
