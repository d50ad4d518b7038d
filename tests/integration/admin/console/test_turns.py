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
