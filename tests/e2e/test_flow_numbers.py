"""The numbers of a flow in a whole cluster, before and after its router was killed."""

from __future__ import annotations

from datetime import datetime

import pytest
from support.systems import document, kill, until

pytestmark = pytest.mark.e2e

KEYS = "{auth: {api_key: {header: X-Api-Key, secrets: [numbers-new, numbers-old]}}}"


async def api(system, path):
    """Call the API of the console, as an operator does."""
    token = (system.cluster.data_dir / "view.token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    return await system.request("GET", f"/api{path}", base=system.cluster.admin, headers=headers)


async def numbers(system, flow):
    return (await api(system, f"/flows/{flow}/statistics")).json


async def test_a_router_that_was_killed_has_the_numbers_again_at_once(guarded):
    await guarded.secrets(**{"numbers-old": "k"})
    await guarded.apply(document("numbers", webhook=KEYS))
    headers = {"X-Api-Key": "k"}
    done = (await guarded.send("numbers", {}, headers=headers)).id
    await guarded.completed(done)
    await guarded.client.flows.pause("numbers")
    first, *_ = [(await guarded.send("numbers", {}, headers=headers)).id for _ in range(3)]

    before = await numbers(guarded, "numbers")
    assert (before["pending"], before["running"], before["accepted_in_hour"]) == (3, 0, 4)
    assert before["completed_in_hour"] == 1
    assert before["missing_secrets"] == ["numbers-new"]
    assert [secret["latest_match"] for secret in before["secrets"]] == [False, True]
    received_at = (await guarded.client.executions.get(first)).execution.received_at
    assert datetime.fromisoformat(before["oldest_pending_at"]) == received_at

    await kill(guarded.cluster, "router-1")

    async def back():
        answer = await api(guarded, "/flows/numbers/statistics")
        return answer.json if answer.status == 200 else None

    after = await until(back, "the router answers again")
    for same in ("pending", "oldest_pending_at", "last_event_at", "missing_secrets"):
        assert after[same] == before[same], same
    assert not any(secret["matched_at"] for secret in after["secrets"])

    async def counted():
        return (await numbers(guarded, "numbers"))["accepted_in_hour"] == 4

    await until(counted, "the last hour is counted")
    total = (await api(guarded, "/overview?flow=numbers&period=24h")).json["total"]
    assert (total["accepted"], total["completed"], total["pending"]) == (4, 1, 3)
    assert (await numbers(guarded, "numbers"))["completed_in_hour"] == 1
    await guarded.client.flows.resume("numbers")
    await guarded.completed(first)
    await guarded.client.flows.delete("numbers")
