"""An execution that waits for its turn says so in the list, on its page, in the API and in the command."""

from __future__ import annotations

import orjson
import pytest
from support.routers import flow

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_it_is_seen_where_an_execution_stands_in_line(operator, client):
    await client.flows.apply([flow("shaped", b"execution: {rate: {limit: 1, per: P1D}}\n")])
    *_, last = [await client.ingest("shaped", {"n": n}) for n in range(3)]
    text = (await operator.get(f"/executions/{last}")).text
    assert "Waits for rate, position 3, turn" in " ".join(text.split())
    assert "Waits for rate, position 2, turn" in " ".join((await operator.get("/executions?flow=shaped")).text.split())
    turn = orjson.loads((await operator.get(f"/api/executions/{last}")).body)["turn"]
    assert (turn["by"], turn["position"], bool(turn["expect_at"])) == ("rate", 3, True)
