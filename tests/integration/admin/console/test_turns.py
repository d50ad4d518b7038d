"""An execution that waits for its turn says so in the list, on its page, in the API and in the command."""

from __future__ import annotations

import orjson
import pytest
from support.routers import flow
from support.runners import attached

from flowhook.v1 import runner_service_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_it_is_seen_where_an_execution_stands_in_line(operator, client):
    await client.flows.apply([flow("shaped", b"execution: {rate: {limit: 1, per: P1D}}\n")])
    *_, last = [await client.ingest("shaped", {"n": n}) for n in range(3)]
    text = (await operator.get(f"/executions/{last}")).text
    assert "Waits for rate, position 3, turn" in " ".join(text.split())
    assert "Waits for rate, position 2, turn" in " ".join((await operator.get("/executions?flow=shaped")).text.split())
    turn = orjson.loads((await operator.get(f"/api/executions/{last}")).body)["turn"]
    assert (turn["by"], turn["position"], bool(turn["expect_at"])) == ("rate", 3, True)


async def test_it_is_seen_what_an_execution_waits_for_that_is_down(operator, client, router):
    await client.flows.apply([flow("caller")])
    execution_id = await client.ingest("caller", {})
    async with attached(router, credit=2) as runner:
        (assignment,) = await runner.assignments(1)
        if execution_id.encode() not in assignment.event:  # the first one of those above
            (assignment,) = await runner.assignments(1)
        report = pb.CallReport(flow_id="caller", origin="https://api.example", failures=5, cause="it answers 503")
        await runner.send(call_reports=pb.CallReports(reports=[report]))
        await runner.park(assignment, destinations=["https://api.example"])
        said = 'Waits for <code>https://api.example</code>, which is <a href="/incidents">down</a>'
        for page in (f"/executions/{execution_id}", "/executions?flow=caller"):
            assert said in " ".join((await operator.get(page)).text.split())


async def test_events_of_a_batch_and_what_runs_for_them_name_each_other(operator, client, router):
    await client.flows.apply([flow("entries", b"execution: {batch: {size: 2, period: PT1H}}\n")])
    first, second, third = [await client.ingest("entries", {"n": n}) for n in range(3)]
    async with attached(router, credit=1000) as runner:
        while first.encode() not in (assignment := (await runner.assignments(1))[0]).event:
            await runner.complete(assignment)  # of the tests above
        await runner.complete(assignment)
    text = " ".join((await operator.get("/executions?flow=entries")).text.split())
    assert "Waits for its batch, 1 of 2, until" in text
    assert f'In the <a href="/executions/{first}">batch</a> of 2 events' in text
    assert "For a batch of 2 events" in text
    for page, other, how in (
        (first, second, "its event is in the batch of this one"),
        (second, first, "runs for the batch that the event of this one is in"),
    ):
        text = (await operator.get(f"/executions/{page}")).text
        assert (how in text, f"/executions/{other}" in text) == (True, True)
        found = orjson.loads((await operator.get(f"/api/executions/{page}")).body)
        assert (found["batch"], found["batch_events"]) == (first, 2)
    turn = orjson.loads((await operator.get(f"/api/executions/{third}")).body)["turn"]
    assert (turn["by"], turn["events"], turn["size"]) == ("batch", 1, 2)
    refused = await operator.get(f"/api/executions/{second}/trace")
    assert (refused.status, orjson.loads(refused.body)["reason"]) == (400, "EXECUTION_ABSORBED")
