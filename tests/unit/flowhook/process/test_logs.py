"""Logs: their shape, and what never gets into them."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from flowhook.errors import InvalidError
from flowhook.process import logs


@pytest.fixture
def stream():
    """A stream that is logged to; the process's own logging is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_event_with_fields(stream):
    logs.configure(log_format="json", process="edge-1", stream=stream)
    logs.get_logger("edge.app").info("listening", address="127.0.0.1:8080")
    (line,) = _lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "listening",
        "level": "info",
        "logger": "edge.app",
        "process": "edge-1",
        "address": "127.0.0.1:8080",
    }


def test_records_of_libraries_have_the_same_shape_and_are_redacted(stream):
    logs.configure(log_format="json", process="edge-1", stream=stream)
    logging.getLogger("tornado.general").warning("said %s", "Bearer abcdefgh")
    (line,) = _lines(stream)
    assert (line["event"], line["logger"], line["process"]) == ("said [redacted]", "tornado.general", "edge-1")


def test_what_is_below_the_level_is_not_logged(stream):
    logs.configure(level="warning", log_format="json", stream=stream)
    logs.get_logger("x").info("quiet")
    logging.getLogger("asyncio").info("quiet")
    assert stream.getvalue() == ""


def test_libraries_never_debug_because_they_show_credentials_then(stream):
    logs.configure(level="debug", log_format="json", stream=stream)
    logging.getLogger("oauthlib.oauth1.rfc5849").debug("signing with %s", "consumer-key")
    logging.getLogger("oauthlib").info("signed")
    logs.get_logger("runner.worker").debug("looking")
    assert [line["event"] for line in _lines(stream)] == ["signed", "looking"]


def test_auto_means_json_where_there_is_no_terminal(stream):
    logs.configure(log_format="auto", stream=stream)
    logs.get_logger("x").info("hello")
    assert _lines(stream)[0]["event"] == "hello"


def test_console_lines_are_for_people_and_redacted_as_well(stream):
    logs.configure(log_format="console", stream=stream)
    logs.get_logger("x").info("hello", token="abc", flow="f")
    assert "hello" in stream.getvalue()
    assert "flow=f" in stream.getvalue()
    assert "abc" not in stream.getvalue()


@pytest.mark.parametrize(
    "fields",
    [
        {"token": "hunter2!"},
        {"authorization": "hunter2!"},
        {"api_key": "hunter2!"},
        {"X-Hub-Signature-256": "hunter2!"},
        {"cookie": ["hunter2!"]},
        {"body": {"a": "hunter2!"}},
        {"headers": [("x", "hunter2!")]},
        {"nested": {"password": "hunter2!"}},
        {"raw": b"hunter2!"},
        {"error": ValueError("refused: Bearer hunter2hunter2")},
        {"url": "https://me:hunter2!@example.org/"},
        {"text": "key fhk_hunter2hunter2"},
        {"pem": "-----BEGIN PRIVATE KEY-----\nhunter2!\n-----END PRIVATE KEY-----"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_credential_that_is_logged_by_mistake_is_blanked(stream, fields):
    logs.configure(log_format="json", stream=stream)
    logs.get_logger("x").warning("oops", **fields)
    assert "hunter2" not in stream.getvalue()
    assert _lines(stream)[0]["event"] == "oops"


def test_a_credential_in_a_traceback_is_blanked(stream):
    logs.configure(log_format="json", stream=stream)
    try:
        int("Basic aHVudGVyMjpodW50ZXIy")
    except ValueError:
        logs.get_logger("x").exception("failed")
    assert "aHVudGVy" not in stream.getvalue()
    assert "ValueError" in _lines(stream)[0]["exception"]


def test_fields_that_reveal_no_secret_stay(stream):
    logs.configure(log_format="json", stream=stream)
    logs.get_logger("x").info("x", flow="blog", secret="blog-webhook", count=3, ready=True, detail=None, names=["a"])
    line = _lines(stream)[0]
    assert [line[key] for key in ("flow", "secret", "count", "ready", "detail", "names")] == [
        "blog",
        "blog-webhook",
        3,
        True,
        None,
        ["a"],
    ]


@pytest.mark.parametrize("setting", [{"level": "loud"}, {"log_format": "xml"}])
def test_an_unknown_setting_is_named_with_what_would_be_right(stream, setting):
    with pytest.raises(InvalidError, match="one of"):
        logs.configure(stream=stream, **setting)
