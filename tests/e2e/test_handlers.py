"""Replays of flows that catch an error, tell somebody, and raise one of their own."""

from __future__ import annotations

import orjson
import pytest
from support.systems import document

pytestmark = pytest.mark.e2e

CATCHES = """- pay:
    try:
      - reserve: {{call: http, with: {{method: post, endpoint: '{url}/reserve'}}}}
      - charge: {{call: http, with: {{method: post, endpoint: '{url}{path}'}}}}
    catch:
      as: problem
      do:
        - notify: {{call: http, with: {{method: post, endpoint: '{url}/notify', body: '${{ $problem }}'}}}}
        - give_up: {{raise: {{error: {{type: https://example.org/unpaid, status: 402, title: Unpaid}}}}}}"""
ONCE = "{retry: {limit: {attempt: {count: 0}}}}"


def catching(system, name, path):
    return document(name, do=CATCHES.format(url=system.outside.url, path=path), execution=ONCE)


async def test_a_replay_from_the_failed_task_begins_with_what_failed_in_the_try(system):
    system.outside.broken["/charge"] = {"why": "maintenance"}
    await system.apply(catching(system, "catches", "/charge"))
    execution_id = (await system.send("catches", {})).id
    assert (await system.faulted(execution_id)).instance == "/do/0/pay/catch/do/1/give_up"
    [reported] = system.received("/notify")
    answer = {"status": 503, "url": f"{system.outside.url}/charge", "body": '{"why": "maintenance"}', "size": 22}
    assert orjson.loads(reported.body)["response"] == answer
    [row] = (await system.flowhook("executions", "get", execution_id, "--json")).rows
    assert [task["error"]["response"] for task in row["journal"] if task["error"]] == [answer]
    system.outside.broken.clear()
    result = await system.flowhook("executions", "replay", execution_id, "--start", "failed_task", "--json")
    assert result.code == 0, result
    await system.completed(result.rows[0]["id"])
    paths = [request.path for request in system.outside.received if f"{execution_id}:" in request.key]
    assert paths == ["/reserve", "/charge", "/notify", "/charge"]


async def test_where_nothing_would_run_anew_a_replay_from_there_is_refused(system):
    raising = "- stop: {raise: {error: {type: https://example.org/no, status: 400, title: No}}}"
    await system.apply(document("raises", do=raising))
    execution_id = (await system.send("raises", {})).id
    await system.faulted(execution_id)
    result = await system.flowhook("executions", "replay", execution_id, "--start", "failed_task")
    assert (result.code, "no task would run again" in result.err) == (1, True)


async def test_what_was_answered_is_retained_with_the_error_and_left_out_of_lists(system):
    ask = f"- ask: {{call: http, with: {{method: get, endpoint: '{system.outside.url}/status/409'}}}}"
    await system.apply(document("refused", do=ask))
    execution_id = (await system.send("refused", {})).id
    error = await system.faulted(execution_id)
    assert (error.response.status, error.response.body) == (409, '{"said": "no"}')
    (listed,) = await system.executions("refused")
    assert (listed.error.status, listed.error.response) == (409, None)
