from __future__ import annotations

from support import pages
from support.cases import cases

from flowhook import limits
from flowhook.events.lifecycle import MAX_OUTPUT_BYTES, TYPES, WORKFLOW_PREFIX
from flowhook.model import Status
from flowhook.model.executions import AttemptEnd
from flowhook.process.settings import RouterSettings, RunnerSettings
from router.dispatch.receivers import attempts_exhausted
from router.scheduling.losses import UNCERTAIN_FACTOR
from router.storage.model import MAX_ATTEMPTS
from runner.interpreter.errors import _DEFAULTS, Kind
from runner.interpreter.journal import COMPACT_BYTES, COMPACT_ENTRIES
from runner.interpreter.listen_task import MAX_EXPECTED_BYTES
from runner.interpreter.tasks import MAX_TASKS
from runner.session import MAX_PENDING_EVENT_BYTES
from runner.worker.effect_executor import idempotency_key

PAGE = pages.text_of("executions.md")
ROWS = {row[0]: row for row in pages.rows(PAGE)}


def test_every_status_is_documented():
    section = PAGE.partition("## Status")[2].partition("\n## ")[0]
    reported = {name.strip("` ") for row in pages.rows(section)[1:] for name in row[0].split(",")}

    assert reported == {status.value for status in Status}


def test_every_end_of_an_attempt_is_documented():
    section = PAGE.partition("### Runner attempts")[2].partition("\n### ")[0]
    assert {row[0].strip("`") for row in pages.rows(section)[1:]} == {end.value for end in AttemptEnd}
    assert f"The newest {MAX_ATTEMPTS} of each execution are stored that were interrupted" in section


@cases("kind", list(Kind))
def test_every_type_of_error_is_documented_with_its_status(kind):
    assert ROWS[f"`{kind}`"][1].startswith(str(_DEFAULTS[kind][0]))


def test_the_idempotency_key_is_as_the_page_says():
    assert f"Idempotency-Key: {idempotency_key('evt_01m8746w29ee29nr9fsnpeescq', '/do/2/fulfil#0')}\n" in PAGE


def test_the_text_of_exhausted_attempts_is_as_the_page_says():
    attempts = RouterSettings.model_fields["max_attempts"].default

    assert attempts_exhausted(attempts).detail + "\n" in PAGE
    assert f"was among those in hand at {attempts * UNCERTAIN_FACTOR} unexplained deaths" in PAGE


def test_journals_are_compacted_when_the_page_says():
    assert f"when it has {COMPACT_ENTRIES} entries or {COMPACT_BYTES // limits.MIB} MiB" in PAGE


def test_flows_run_one_another_as_deep_as_the_page_says():
    assert f"nest at most {limits.MAX_WORKFLOW_DEPTH} deep" in PAGE


def test_every_event_about_executions_and_tasks_is_documented_and_no_other():
    section = PAGE.partition("### Events about executions")[2].partition("\n## ")[0]
    table = " ".join(row[0] for row in pages.rows(section)).replace(
        "…", f"{WORKFLOW_PREFIX}suspended.v1` `{WORKFLOW_PREFIX}"
    )
    assert {name for name in table.replace("`", " ").split() if name.startswith("io.")} == TYPES


def test_what_is_reported_of_tasks_is_as_large_as_the_page_says():
    assert f"`output`, if that has at most {MAX_OUTPUT_BYTES // limits.KIB} KiB" in PAGE
    assert f"until they are on disk: at most {MAX_PENDING_EVENT_BYTES // limits.MIB} MiB" in PAGE


@cases(
    ("row", "text"),
    [
        ("time of one expression", f"{limits.EXPRESSION_SECONDS:g} s"),
        ("memory of one expression", f"{limits.EXPRESSION_BYTES // limits.MIB} MiB"),
        ("time of one call", f"{RunnerSettings.model_fields['http_timeout'].default:g} s"),
        ("a task's or flow's output, a call's result", f"{limits.MAX_RESULT_BYTES // limits.MIB} MiB"),
        ("tasks that one execution runs", f"{MAX_TASKS:,}"),
        ("entries of one journal: calls, waits, retries, events", f"{limits.MAX_JOURNAL_ENTRIES:,}"),
        ("entries of one journal: calls, waits, retries, events", f"{limits.MAX_JOURNAL_BYTES // limits.MIB} MiB"),
        ("what an execution waits for at a time, beside times", f"{limits.MAX_SUBSCRIPTIONS:,}"),
        ("what an execution waits for at a time, beside times", f"{limits.MAX_SUBSCRIPTION_BYTES // limits.MIB} MiB"),
        ("what a `correlate` expects", f"{MAX_EXPECTED_BYTES // limits.KIB} KiB"),
        ("body of an event", f"{limits.MAX_STREAMED_BODY_BYTES // limits.GIB} GiB"),
        ("head of a request", f"{limits.MAX_HEADER_BYTES // limits.KIB} KiB"),
        ("dedupe key", f"{limits.MAX_DEDUPE_KEY_BYTES} bytes"),
        ("unfinished events of a flow", f"{limits.DEFAULT_FLOW_BACKLOG:,}"),
        ("unfinished events of all flows", f"{limits.DEFAULT_TOTAL_BACKLOG:,}"),
        ("executions in one runner", str(RunnerSettings.model_fields["concurrency"].default)),
    ],
)
def test_limits_are_what_the_page_says(row, text):
    assert text in ROWS[row][1]
