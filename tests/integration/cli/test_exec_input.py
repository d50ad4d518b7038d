"""What `flowhook exec` gives a flow: a request as the edge would hand it on, callbacks and events."""

from __future__ import annotations

import json
import re

import pytest
from support.commands import flowhook

HEAD = "document: {dsl: 1.0.3, namespace: shop, name: orders, version: 1.0.0}\n"
WEBHOOK = "webhook: {auth: {api_key: {header: X-Api-Key, secret: key}}, callbacks: {approval: {}}}\n"
KEEP = "do: [{keep: {set: '${ . }'}}]\n"
DECIDE = (
    "do:\n  - decide:\n      listen: {to: {one: {with: {type: approval}}}}\n"
    "      timeout: {after: P3D}\n      output: {as: '${ .[0] }'}\n"
)


@pytest.fixture
def execute(tmp_path):
    def run(text, *options, stdin=""):
        path = tmp_path / "flow.yaml"
        path.write_text(HEAD + text)
        return flowhook("exec", path, "--json", *options, stdin=stdin)

    return run


def test_a_request_is_what_an_edge_hands_on(execute):
    options = ["--header", "X-Shop: north", "--header", "X-Api-Key: k", "--header", "Authorization: Basic eA=="]
    options += ["--query", "tag=a b", "--query", "tag=c", "--content-type", "application/x-www-form-urlencoded"]
    (given,) = execute(WEBHOOK + KEEP, *options, "--input", "order=7").rows
    assert given.pop("id").startswith("evt_")
    assert given.pop("received_at")
    assert given == {
        "method": "POST",
        "path": "/hook/shop.orders",
        "query": {"tag": ["a b", "c"]},
        "headers": {"content-type": "application/x-www-form-urlencoded", "content-length": "7", "x-shop": "north"},
        "content_type": "application/x-www-form-urlencoded",
        "body": {"order": "7"},
        "attachments": [],
    }


def test_a_body_that_is_wanted_raw_is_an_attachment(execute):
    text = "webhook: {auth: none, parse: raw}\n" + KEEP
    (given,) = execute(text, "--content-type", "text/csv", "--input", "@-", stdin="a;b").rows
    assert given["body"] is None
    assert [(each["type"], each["content"]) for each in given["attachments"]] == [("text/csv", "a;b")]


def test_the_type_of_an_input_counts_without_a_webhook_too(execute):
    assert execute(KEEP, "--content-type", "text/plain", "--input", "hello").rows == ["hello"]


@pytest.mark.parametrize(
    ("text", "options", "cause"),
    [
        (KEEP, ["--header", "A: b"], "--header: shop.orders has no `webhook`"),
        (KEEP, ["--query", "a=b"], "--query: shop.orders has no `webhook`"),
        (KEEP, ["--header", "A"], "--header takes NAME:VALUE"),
        (KEEP, ["--input", "{"], "--input is not JSON: unexpected end of data: line 1 column 2"),
        (KEEP, ["--content-type", "application/xml", "--input", "<a"], "--input is not application/xml"),
        (KEEP, ["--callback", "approval={}"], "has no callback approval, nor any other"),
        (WEBHOOK + KEEP, ["--callback", "refusal={}"], "no callback refusal; there are approval"),
        (WEBHOOK + KEEP, ["--callback", "approval={"], "--callback approval is not JSON"),
        (KEEP, ["--event", "{"], "--event is not JSON"),
        (KEEP, ["--event", "{}"], "--event: "),
        (KEEP, ["--event", "@/no/such"], "--event @/no/such: No such file"),
    ],
)
def test_what_can_t_come_is_wrong_usage(execute, text, options, cause):
    result = execute(text, *options)
    assert (result.code, result.out) == (2, "")
    assert cause in " ".join(result.err.replace("│", " ").split())


def test_a_callback_is_there_for_the_task_that_listens(execute, tmp_path):
    (tmp_path / "yes.json").write_text('{"approved": true}')
    result = execute(WEBHOOK + DECIDE, "--callback", f"approval=@{tmp_path}/yes.json")
    (given,) = result.rows
    assert (given["body"], given["path"]) == ({"approved": True}, "/hook/shop.orders/approval")
    assert result.err == ""


def test_an_event_is_there_for_the_task_that_listens(execute):
    assert execute(DECIDE, "--event", '{"type": "approval", "data": {"n": 1}}').rows == [{"n": 1}]


def test_what_is_skipped_is_reported(execute):
    result = execute(WEBHOOK + DECIDE, "--skip-waits")
    assert result.code == 1
    reported, fault = map(json.loads, result.err.splitlines())
    assert reported["skipped"] == {
        "task": "/do/0/decide",
        "for": "listen",
        "seconds": pytest.approx(3 * 86_400, abs=5),
        "types": ["approval"],
    }
    assert (fault["status"], fault["instance"]) == (408, "/do/0/decide")


def test_people_get_words_and_not_without_end(tmp_path):
    path = tmp_path / "flow.yaml"
    pause = "pause: {wait: PT90S, output: {as: '{n: (.n + 1)}'}}"
    again = "again: {switch: [{more: {when: .n < 60, then: pause}}, {done: {then: end}}]}"
    path.write_text(f"{HEAD}input: {{from: '{{n: 0}}'}}\ndo:\n  - {pause}\n  - {again}\n")
    lines = flowhook("exec", path, "--skip-waits").err.splitlines()
    waits = [re.sub(r"\b8\d(\.\d)? s", "90 s", line) for line in lines]  # what is left of it on a busy machine
    assert waits == ["skipping 90 s: wait of /do/0/pause"] * 50 + ["further waits are not shown"]


def test_a_wait_that_is_waited_for_is_reported(tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text(HEAD + "do: [{pause: {wait: {milliseconds: 1200}}}]\n")
    assert flowhook("exec", path).err == "waiting 1.2 s: wait of /do/0/pause\n"


def test_a_call_is_tried_again_within_seconds_and_the_longer_time_of_a_cluster_is_told_once(tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text(HEAD + "do: [{ask: {call: http, with: {method: get, endpoint: 'http://127.0.0.1:9'}}}]\n")
    result = flowhook("exec", path, "--skip-waits")
    told, *waits = result.err.splitlines()[:-1]
    assert told.endswith("within seconds (quick); a cluster does so for a day (webhook)")
    assert len(waits) <= 4
    assert all(re.fullmatch(r"skipping \d(\.\d)? s: retry of /do/0/ask", wait) for wait in waits)
    assert json.loads(result.err.splitlines()[-1])["status"] == 500


def test_scripts_run_where_that_is_allowed(execute):
    text = "do: [{count: {run: {shell: {command: 'echo $((6 * 7))'}}}}]\n"
    assert execute(text).code == 1
    assert execute(text, "--allow-processes").rows == ["42\n"]


def test_a_flow_that_batches_its_events_gets_an_array_of_the_one(execute):
    (given,) = execute(
        "webhook: {auth: none}\nexecution: {batch: {size: 9, period: PT1S}}\n" + KEEP, "--input", "7"
    ).rows
    assert [each["body"] for each in given] == [7]
