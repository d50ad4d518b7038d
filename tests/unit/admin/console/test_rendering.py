"""Values are escaped; times and sizes have units."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import jinja2
import orjson
import pytest
from support.cases import cases

from admin.console import rendering
from flowhook.events import ids
from flowhook.security import callback_tokens

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
TEMPLATES = sorted(path.name for path in rendering.FOLDER.glob("*.html"))


@cases(
    ("seconds", "text"),
    [
        (0.4, "now"),
        (1, "1 s ago"),
        (59, "59 s ago"),
        (61, "1 min ago"),
        (7200, "2 h ago"),
        (200_000, "2 d ago"),
        (-90, "in 1 min"),
    ],
)
def test_a_time_is_shown_as_a_distance(seconds, text):
    assert rendering.ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_a_time_is_shown_exactly():
    assert rendering.exact(NOW + timedelta(milliseconds=7)) == "2026-11-27 12:00:00.007 UTC"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (5 * 2**20, "5.0 MiB")]
)
def test_a_size_has_a_unit(count, text):
    assert rendering.size(count) == text


@cases(
    ("seconds", "text"),
    [
        (0.0123, "12 ms"),
        (1.25, "1.2 s"),
        (90, "1.5 min"),
        (5400, "1.5 h"),
        (30 * 86_400, "30.0 d"),
        (-3.5, "0 ms"),
    ],
)
def test_a_duration_has_a_unit(seconds, text):
    assert rendering.duration(seconds) == text


def test_json_that_is_passed_on_is_cut():
    text = rendering.json_text(orjson.Fragment(b'"' + b"x" * 20_000 + b'"'))
    assert text.endswith("\n… 3618 more characters")


def test_a_value_that_is_not_there_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        rendering.render("error.html", role=None, section="")


@cases("name", TEMPLATES)
def test_no_template_switches_escaping_off_for_a_value(name):
    text = (rendering.FOLDER / name).read_text()
    assert "autoescape" not in text
    for before in text.split("|safe")[:-1]:
        assert before.endswith(' class="danger"\'')  # a text of the template itself


@cases("name", TEMPLATES)
def test_no_template_has_an_inline_script_or_style(name):
    text = (rendering.FOLDER / name).read_text()
    for forbidden in ("<script>", "<style", " style=", " onclick", "hx-on", "javascript:"):
        assert forbidden not in text


def test_ids_in_a_text_are_links_and_the_rest_is_text():
    execution, job = f"evt_{'0' * 25}k", f"job_{'1' * 26}"
    text = str(rendering.linked(f"<b>{execution} by {job}, not evt_short"))
    assert text == (
        f'&lt;b&gt;<a href="/executions/{execution}"><code>{execution}</code></a> by '
        f'<a href="/jobs/{job}"><code>{job}</code></a>, not evt_short'
    )


def test_a_token_is_masked_before_a_text_is_cut_within_it():
    token = callback_tokens.issue(bytes(32), ids.mint(1), "approval", 0)
    assert rendering.json_text(orjson.Fragment(f'["{token}"]'.encode()), len(token)) == '[\n  "•••"\n]'
