"""A form with an invalid field is shown again with what was typed, and with the error beside the field."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from support.routers import flow
from support.runners import attached

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCRIPT = '"><script>document.title = 1</script>'
UNKNOWN = "evt_00000000000000000000000001"
FIELD = re.compile(
    r'<(?:input|select)[^>]* name="(\w+)"[^>]*>|<textarea[^>]* name="(\w+)"[^>]*>\n(.*?)</textarea>', re.DOTALL
)
VALUE = re.compile(r' value="([^"]*)"')
ERROR = re.compile(r'<span class="field-error" id="error-(\w+)">([^<]+)</span>')


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ended(router, client):
    """The ID of an execution of the flow `filled-in` that has ended."""
    await client.flows.apply([flow("filled-in")])
    async with attached(router, credit=1) as runner:
        execution_id = await client.ingest("filled-in", {"a": 1})
        [assignment] = await runner.assignments(1)
        await runner.complete(assignment)
    return execution_id


def errors(answer):
    """Return what is said beside fields, by name; each field it is about refers to it."""
    found = {name: unescape(text) for name, text in ERROR.findall(answer.text)}
    assert all(f'aria-invalid="true" aria-describedby="error-{name}"' in answer.text for name in found)
    return found


def typed(answer):
    """Return the values of the fields on a page, by name; of those of one name the last."""
    assert "<script>document" not in answer.text
    return {
        match[1] or match[2]: unescape(match[3] if match[2] else (VALUE.search(match[0]) or ["", ""])[1])
        for match in FIELD.finditer(answer.text)
    }


@pytest.mark.parametrize(
    ("path", "given", "expected"),
    [
        ("/executions", {"flow": SCRIPT, "since": "yesterday?", "min_attempts": "many"}, {"since", "min_attempts"}),
        (
            "/executions",
            {"error_title": SCRIPT, "caused_by": "evt_?", "error_status": "600"},
            {"caused_by", "error_status"},
        ),
        ("/executions", {"flow": "filled-in", "jq": ".body["}, {"jq"}),
        ("/flows", {"name": SCRIPT * 4}, {"name"}),
        ("/audit", {"actor": SCRIPT, "action": "FlowService/PauseFlow", "target": ["a", "b"]}, {"target"}),
        ("/rejections", {"flow": SCRIPT, "reason": ["a", "b"]}, {"reason"}),
        ("/faults", {"flow": ["a", "b"]}, {"flow"}),
        ("/flows/filled-in/revisions", {"old": "1", "new": "-1"}, {"new"}),
        ("/flows/filled-in/test", {"execution": UNKNOWN}, {"execution"}),
        ("/flows/filled-in/test", {"sample": "no/such"}, {"sample"}),
        ("/jobs/new", {"flow": SCRIPT, "rate": "abc", "until": "never", "action": "replay"}, {"rate", "until"}),
    ],
)
async def test_a_form_whose_fields_are_in_the_url(operator, ended, path, given, expected):
    answer = await operator.get(f"{path}?{urlencode(given, doseq=True)}")
    assert answer.status == (404 if path.endswith("/test") else 400)
    assert errors(answer).keys() == expected
    shown = typed(answer)
    for name, value in given.items():
        if name != "sample":  # one of a list
            assert (
                shown[name] == (value if isinstance(value, str) else value[0])
                or f'value="{value}" selected' in answer.text
            )


async def test_conditions_of_which_several_may_be_given_are_shown_again(operator):
    answer = await operator.get("/executions?attribute=order:4711&attribute=broken&status=faulted&live=off")
    assert (answer.status, errors(answer)) == (400, {"attribute": "write NAME:VALUE, such as order:4711"})
    assert re.findall(r'name="attribute" value="([^"]*)"', answer.text) == ["order:4711", "broken"]
    assert 'value="faulted" checked' in answer.text


async def test_an_execution_to_compare_with_is_asked_for_again(operator, ended):
    answer = await operator.get(f"/executions/{ended}/diff?with={UNKNOWN}")
    assert (answer.status, errors(answer).keys(), typed(answer)["with"]) == (404, {"with"}, UNKNOWN)
    assert (await operator.get(f"/executions/{UNKNOWN}/diff?with={ended}")).status == 404


async def test_a_parameter_that_is_no_field_is_named_above_the_form(operator):
    answer = await operator.get("/audit?color=red&actor=ann")
    assert (answer.status, errors(answer), typed(answer)["actor"]) == (400, {}, "ann")
    assert "there is no parameter &#39;color&#39;: write actor, action, target" in answer.text


async def test_a_job_is_created_once_its_form_is_corrected_and_only_as_it_was_previewed(operator, client, ended):
    form = {"flow": "filled-in", "action": "cancel", "rate": "abc", "reason": SCRIPT}
    for path in ("/jobs/new", "/jobs"):
        answer = await operator.post(path, form)
        assert (answer.status, errors(answer).keys()) == (400, {"rate"})
    shown = typed(answer)
    assert {name: shown[name] for name in form if name != "action"} == {
        name: form[name] for name in form if name != "action"
    }
    corrected = {**shown, "action": "cancel", "rate": "5", "status": "", "unresolved": ""}
    answer = await operator.post("/jobs", corrected)  # nobody has seen what it works on
    assert (answer.status, "you changed what it does" in answer.text) == (409, True)
    previewed = {**corrected, "previewed": typed(answer)["previewed"]}
    answer = await operator.post("/jobs", {**previewed, "reason": "r" * 2000})
    assert (answer.status, errors(answer).keys(), typed(answer)["reason"]) == (400, {"reason"}, "r" * 2000)
    assert [each async for each in client.jobs.list()] == []
    assert (await operator.post("/jobs", previewed)).status == 303


async def test_a_replay_is_asked_for_again(operator, ended):
    path = f"/executions/{ended}/replay"
    await operator.get(path)
    chosen = {"start": "task", "task": "/no/such", "output": SCRIPT, "input": "recorded", "content_type": "text/x"}
    answer = await operator.post(path, {"step": "preview", **chosen})
    assert (answer.status, errors(answer).keys()) == (400, {"output"})
    assert {name: typed(answer)[name] for name in ("output", "content_type")} == {
        "output": SCRIPT,
        "content_type": "text/x",
    }
    answer = await operator.post(path, {"step": "preview", **chosen, "output": "{}"})
    assert (answer.status, errors(answer).keys()) == (404, {"task"})
    answer = await operator.post(path, {"start": "beginning", "input": "edited", "body": "[1]", "reason": "r" * 501})
    assert (answer.status, errors(answer).keys(), typed(answer)["reason"]) == (400, {"reason"}, "r" * 501)
    assert "What will run" in answer.text


async def test_a_secret_is_asked_for_again_without_its_value(operator, client):
    await operator.get("/secrets")
    for name, value, field in ((SCRIPT, "hunter22", "name"), ("good", "", "value"), ("", "hunter22", "name")):
        answer = await operator.post("/secrets", {"name": name, "value": value})
        assert (answer.status, errors(answer).keys(), typed(answer)["name"]) == (400, {field}, name)
        assert "hunter22" not in answer.text
    assert "good" not in [each.name for each in await client.secrets.list()]


async def test_a_test_event_is_asked_for_again(operator, ended):
    await operator.get("/secrets")
    form = {"method": "POST", "content_type": "c" * 300, "headers": SCRIPT, "body": "\nb", "via": "grpc"}
    for path in ("/flows/filled-in/test", "/flows/filled-in/test/sign"):
        sent = form if path.endswith("test") else {name: form[name] for name in form if name != "via"}
        answer = await operator.post(path, sent)
        assert (answer.status, errors(answer).keys()) == (400, {"content_type"})
        assert {name: typed(answer)[name] for name in ("headers", "body")} == {"headers": SCRIPT, "body": "\nb"}
    answer = await operator.post("/flows/filled-in/test", {**form, "content_type": "text/plain"})
    assert (answer.status, errors(answer)) == (400, {"headers": "line 1 of the headers: write `Name: value`"})


async def test_a_file_is_asked_for_again(operator):
    await operator.get("/secrets")
    for path in ("/flows", "/check"):
        answer = await operator.post(path, {"document": SCRIPT, "reason": "r" * 501})
        assert (answer.status, errors(answer).keys()) == (400, {"reason"})
        assert (typed(answer)["document"], typed(answer)["reason"]) == (SCRIPT, "r" * 501)
        answer = await operator.post(path, {"reason": SCRIPT})
        assert (answer.status, errors(answer).keys(), typed(answer)["reason"]) == (400, {"document"}, SCRIPT)


async def test_what_a_button_asks_is_asked_again_and_then_done(operator, client, ended):
    await operator.get("/secrets")
    reason = SCRIPT * 14
    answer = await operator.post("/flows/filled-in/pause", {"reason": reason})
    assert (answer.status, errors(answer).keys(), typed(answer)["reason"]) == (400, {"reason"}, reason)
    assert 'action="/flows/filled-in/pause"' in answer.text
    assert not (await client.flows.get("filled-in")).paused
    assert (await operator.post("/flows/filled-in/pause", {"reason": SCRIPT})).status == 303
    assert (await client.flows.get("filled-in")).paused


async def test_a_viewer_gets_the_forms_that_she_may_use(viewer):
    answer = await viewer.get("/jobs/new?flow=x&since=never")
    assert (answer.status, errors(answer).keys(), typed(answer)["flow"]) == (400, {"since"}, "x")
    assert 'action="/jobs"' not in answer.text
    answer = await viewer.get("/flows?state=odd&name=n")
    assert (answer.status, "Apply a flow" in answer.text, typed(answer)["name"]) == (400, False, "n")
