"""No error shows the value of a secret, however it came there."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from support.cases import cases
from support.cpu import cpu_seconds

from flowhook import limits
from flowhook.model import FailedResponse, WorkflowError
from runner.interpreter import redaction
from runner.interpreter.effects import EffectResult
from runner.interpreter.errors import Kind, error
from runner.interpreter.redaction import Redactor

SECRETS = {"bank": {"user": "u", "password": 'pa"55/wörd'}, "token": "t0ken-0f-mine"}


@cases(
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
def test_a_value_is_taken_out_in_each_of_its_spellings_and_the_rest_is_retained(text):
    reported = Redactor(SECRETS).redact(f"refused {text} just now")
    assert "…" in reported
    assert not {"pa", "0f", "rd"} & set(reported.replace("%", " ").replace("\\", " ").split())
    assert (reported.startswith("refused "), reported.endswith(" just now")) == (True, True)


@cases(
    "text",
    [
        "pa%2255%2fw%c3%b6rd",
        "pa%2255/w%C3%B6rd",
        'pa\\"55\\/wörd',
        base64.b64encode('pa"55/wörd'.encode()).decode(),
        base64.urlsafe_b64encode('pa"55/wörd'.encode()).decode(),
        base64.b64encode(b"t0ken-0f-mine").decode().rstrip("="),
        quote(base64.b64encode(b"t0ken-0f-mine").decode(), ""),
    ],
)
def test_a_value_is_taken_out_in_the_encodings_of_urls_and_in_base64(text):
    assert Redactor(SECRETS).redact(f"refused {text} just now") == "refused … just now"


@cases("secret", ["12345678", "t0ken-0f-mine", "ÿþ?>~~ÿÿ>?ü"])
@cases("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_is_taken_out_wherever_the_value_stands_in_what_was_encoded(secret, encode):
    for before in range(7):
        for after in range(7):
            encoded = encode(b"u" * before + secret.encode() + b"v" * after).decode()
            left = Redactor({"s": secret}).redact(encoded)
            known = encode(b"u" * before).decode()[: before * 8 // 6]
            assert left.startswith(known + "…")
            assert len(left) <= len(known) + len("…") + 4 * (after + 3) // 3


def test_the_base64_of_what_is_short_is_left_in():
    assert Redactor({"s": "mine"}).redact("bWluZQ==") == "bWluZQ=="


def test_spaces_are_found_as_plus():
    assert Redactor({"s": "a b c d+d"}).redact("?q=a+b+c+d%2Bd") == "?q=…"


def test_large_values_are_redacted_quickly():
    secrets = {str(number): f"{number:02}" * 32_768 for number in range(10, 40)}
    value = [{"a": "x" * 100, "b": ["y"] * 10}] * 100
    assert Redactor(secrets).redact_values(value) == value
    assert cpu_seconds(lambda: Redactor(secrets).redact_values(value), 1.0) < 1.0


def test_what_is_too_short_to_be_a_secret_is_left_in():
    assert Redactor(SECRETS).redact("such a failure") == "such a failure"


@pytest.mark.parametrize("key", ["type", "title", "detail"])
def test_a_raised_error_shows_no_secret(execute, key):
    raised = {"type": "https://example.com/e", "status": 400, key: '${ "https:" + $secrets.token }'}
    outcome = execute([{"a": {"raise": {"error": raised}}}], {}, secrets=SECRETS)
    assert "t0ken" not in str(outcome.error)
    assert outcome.error.as_dict()[key].endswith("…")


def test_the_error_of_a_call_shows_no_secret_of_the_flow(execute):
    world = execute.World({"f": EffectResult(None, error(Kind.COMMUNICATION, "no t0ken-0f-mine", instance="/do/0/a"))})
    assert execute([{"a": {"call": "f"}}], {}, world=world, secrets=SECRETS).error.detail == "no …"
    assert "t0ken" not in repr(world.performed[0])


def test_what_was_answered_is_shown_without_secrets_and_without_the_beginning_of_one_that_was_cut_off():
    secret = "s3cret-of-some-length"
    body = f"you sent {secret}, and once more: {secret[:9]}"
    error = WorkflowError(
        "about:blank", 500, "no", "/do/0/a", "", FailedResponse(500, f"http://x/{secret}", body, 9000)
    )
    reported = Redactor({"a": "other", "b": secret}).redact_error(error).response
    assert reported == FailedResponse(500, "http://x/…", "you sent …, and once more: …", 9000)


def test_an_error_with_what_was_answered_is_read_as_it_was_written():
    error = WorkflowError("about:blank", 500, "no", "/do/0/a", "why", FailedResponse(500, "http://x/", "{}", 2))
    assert error.as_dict()["response"] == {"status": 500, "url": "http://x/", "body": "{}", "size": 2}
    for each in (error, error.without_response()):
        assert WorkflowError.from_dict(each.as_dict()) == each
    assert "response" not in error.without_response().as_dict()


FAILING = {"f": EffectResult(None, error(Kind.COMMUNICATION, "no t0ken-0f-mine"))}


def nested(task, depth):
    return {"a": task} if not depth else {"a": {"do": [nested(task, depth - 1)]}}


def test_secrets_are_looked_through_once_for_all_errors_of_an_execution(execute, monkeypatch):
    spelled, redacted = [], []
    spellings, redact_one = redaction._spellings, Redactor.redact_error
    monkeypatch.setattr(redaction, "_spellings", lambda text: spelled.append(text) or spellings(text))
    monkeypatch.setattr(Redactor, "redact_error", lambda self, each: redacted.append(each) or redact_one(self, each))
    caught = {"try": [nested({"call": "f"}, depth=5)], "catch": {}}
    outcome = execute(
        [{"a": caught}, {"b": caught}, nested({"call": "f"}, depth=5)],
        {},
        world=execute.World(FAILING),
        secrets=SECRETS,
    )
    assert outcome.error.detail == "no …"
    assert len(spelled) == len(set(spelled))
    assert len(redacted) == 3  # one for each error, however many tasks it goes through


@pytest.mark.parametrize("size", [5, 40, 70_000])
def test_the_beginning_of_a_secret_at_the_end_is_found_wherever_it_begins(size):
    secret = "abcabcab" * (size // 8 + 1)
    for length in (4, 5, 7, min(size, len(secret) - 1)):
        assert Redactor([secret]).redact_beginning("x" * 10 + secret[:length]) == "x" * 10 + "…"
    assert Redactor([secret]).redact_beginning("xabc") == "xabc"


ANSWER = FailedResponse(502, "http://x/a", "we are away", 9000)


def raised_again(execute, answer, change="."):
    world = execute.World({"f": EffectResult(None, error(Kind.COMMUNICATION, "away", response=answer))})
    again = {"raise": {"error": f"${{ $error | {change} }}"}}
    return execute([{"a": {"try": [{"b": {"call": "f"}}], "catch": {"do": [{"c": again}]}}}], {}, world=world).error


def test_an_error_that_is_caught_and_raised_again_keeps_what_was_answered(execute):
    assert raised_again(execute, ANSWER).response == ANSWER


@pytest.mark.parametrize(
    "change",
    [
        'response = "x"',
        "response = null",
        "response.more = 1",
        "del(.response.url)",
        "response.status = 7",
        "response.status = true",
        "response.size = -1",
        "response.size = 1e9",
        "response.body = {}",
    ],
)
def test_what_no_answer_can_be_is_left_out_of_an_error_that_is_raised_again(execute, change):
    again = raised_again(execute, ANSWER, change if change.startswith("del") else f".{change}")
    assert (again.response, again.detail) == (None, "away")


def test_what_an_author_says_was_answered_is_retained_as_far_as_an_answer_is(execute):
    again = raised_again(execute, ANSWER, '.response.body = "é" * 9000 | .response.url = "x" * 9000').response
    assert len(again.url.encode()) <= limits.MAX_ERROR_DETAIL_BYTES
    assert len(again.body.encode()) <= limits.MAX_ERROR_BODY_BYTES
    assert again.body.endswith("…")
