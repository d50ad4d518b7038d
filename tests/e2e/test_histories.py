"""What `executions get` tells of an execution: its tasks, with times."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from support.systems import document, until

pytestmark = pytest.mark.e2e

EPOCH = re.compile(r"\b1[5-9]\d{11}\b")
"""Unix milliseconds of our days."""

FLOW = """- keep: {{set: {{n: 1}}}}
- choose: {{switch: [{{more: {{when: '${{ .n == 1 }}', then: ask}}}}]}}
- passed: {{set: {{n: 2}}}}
- ask: {{call: http, with: {{method: get, endpoint: '{url}/ok'}}}}
- pause: {{wait: {{seconds: 2}}}}
- each:
    for: {{in: '${{ [range(120)] }}'}}
    do: [{{post: {{call: http, with: {{method: get, endpoint: '{url}/ok'}}}}}}]
- last: {{set: {{done: true}}}}"""


async def test_tasks_are_reported_with_times_also_after_a_wait_and_compactions(system):
    await system.apply(document("told", do=FLOW.format(url=system.outside.url)))
    execution_id = (await system.send("told", {})).id
    await system.completed(execution_id)
    shown = await system.flowhook("executions", "get", execution_id, "--json")
    [row] = shown.rows
    history = row["tasks"]
    tasks = {each["task"]: each for each in history}
    assert [each["task"] for each in history[:5]] == [
        "/do/0/keep",
        "/do/1/choose",
        "/do/3/ask",
        "/do/4/pause",
        "/do/5/each",
    ]
    assert tasks["/do/1/choose"]["detail"] == "ask"
    assert [tasks[f"/do/5/each/do/0/post[{index}]"]["state"] for index in range(120)] == ["completed"] * 120
    assert tasks["/do/6/last"]["number"] == len(history) == 126
    assert {each["state"] for each in history} == {"completed"}
    began, ended = (datetime.fromisoformat(tasks["/do/4/pause"][name]) for name in ("began_at", "ended_at"))
    assert (ended - began).total_seconds() >= 2
    assert all(each["began_at"] <= each["ended_at"] for each in history)
    assert not EPOCH.search(shown.out)
    table = (await system.flowhook("executions", "get", execution_id)).out
    assert re.search(r"Z  /do/4/pause +1 +2\.\d s +completed\n", table)
    assert re.search(r"/do/1/choose +1 +\d+ ms +→ ask\n", table)
    assert not EPOCH.search(table)


async def test_of_a_flow_that_waits_its_task_is_shown(system):
    await system.apply(document("waits", do="- keep: {set: {n: 1}}\n- pause: {wait: {hours: 1}}"))
    execution_id = (await system.send("waits", {})).id

    async def reported():
        shown = await system.flowhook("executions", "get", execution_id, "--json")
        return shown if len(shown.rows[0]["tasks"]) > 1 else None

    shown = await until(reported, "the pause has begun")
    assert [(each["task"], each["state"]) for each in shown.rows[0]["tasks"]] == [
        ("/do/0/keep", "completed"),
        ("/do/1/pause", "running"),
    ]
    assert not EPOCH.search(shown.out)
    await system.client.executions.cancel(execution_id)
