"""`/audit`: what operators change stands there, with the reason they gave, and can be exported."""

from __future__ import annotations

import orjson
import pytest
from support.consoles import running_console
from support.routers import flow

from admin.console.lists import ACTIONS
from router.calls.audit_recorder import AUDITED

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCRIPT = "<script>alert(1)</script>"


async def test_what_a_form_changes_is_shown_with_its_reason(client, operator, viewer):
    await client.flows.apply([flow("audited")])
    await operator.get("/flows/audited")
    answer = await operator.post("/flows/audited/pause", {"reason": f"maintenance {SCRIPT}"})
    assert answer.status == 303
    page = await viewer.get("/audit?target=audited&action=FlowService/PauseFlow")
    assert page.status == 200
    assert "maintenance &lt;script&gt;" in page.text
    assert 'title="FlowService/PauseFlow">pause a flow</a>' in page.text
    assert '<option value="FlowService/PauseFlow" selected>pause a flow</option>' in page.text
    assert SCRIPT not in page.text


async def test_all_actions_are_named_in_words_and_an_unknown_one_is_a_condition_too(viewer):
    assert ACTIONS.keys() == AUDITED.keys()
    assert len(set(ACTIONS.values())) == len(ACTIONS)
    assert "<option selected>&lt;b&gt;</option>" in (await viewer.get("/audit?action=<b>")).text


async def test_the_api_takes_a_reason_and_exports_the_log(client, operator, router):
    await client.flows.apply([flow("exported")])
    bearer = {"Authorization": f"Bearer {router.token('admin')}"}
    answer = await operator.request("POST", "/api/flows/exported/pause", json={"reason": "by API"}, headers=bearer)
    assert answer.status == 200
    answer = await operator.get("/api/audit?target=exported&page_size=1", headers=bearer)
    [entry] = orjson.loads(answer.body)["entries"]
    assert (entry["action"], entry["reason"], entry["error"]) == ("FlowService/PauseFlow", "by API", "")
    for path in ("/audit/export?target=exported", "/api/audit/export?target=exported"):
        answer = await operator.get(path)
        assert answer.headers["Content-Disposition"] == 'attachment; filename="audit.jsonl"'
        assert [orjson.loads(line)["target"] for line in answer.body.splitlines()] == ["exported", "exported 1"]


async def test_what_a_viewer_tries_changes_nothing(client, viewer):
    await client.flows.apply([flow("viewed")])
    await viewer.get("/flows/viewed")
    assert (await viewer.post("/flows/viewed/pause")).status == 403
    assert not (await client.flows.get("viewed")).paused


async def test_pages_of_the_log(operator, client):
    await client.flows.apply([flow("paged")])
    for _ in range(2):
        await client.flows.pause("paged")
        await client.flows.resume("paged")
    first = await operator.get("/api/audit?target=paged&page_size=3")
    page = orjson.loads(first.body)
    rest = orjson.loads((await operator.get(f"/api/audit?target=paged&page_token={page['next_page_token']}")).body)
    assert (len(page["entries"]), len(rest["entries"]), rest["next_page_token"]) == (3, 2, "")
    assert "page_token=" in (await operator.get("/audit?page_size=1")).text


@pytest.mark.parametrize("query", ["actr=ann", "page_size=0", "page_token=x"])
async def test_a_wrong_condition_is_400(operator, query):
    assert (await operator.get(f"/audit?{query}")).status == 400
    assert (await operator.get(f"/api/audit?{query}")).status == 400


async def test_without_entries_the_page_says_what_stands_there(operator):
    assert "No entry meets these conditions" in (await operator.get("/audit?target=nothing-of-that-name")).text


async def test_refusals_that_repeat_are_one_row_and_the_client_behind_a_proxy_is_named(router, client):
    await client.flows.apply([flow("known")])
    async with running_console(router, trusted_proxies="127.0.0.0/8") as console, console.browser() as browser:
        bearer = {"Authorization": f"Bearer {router.token('admin')}", "X-Forwarded-For": "203.0.113.9"}
        for name in ("nothing-1", "nothing-2", "nothing-3"):
            answer = await browser.request("POST", f"/api/flows/{name}/resume", json={}, headers=bearer)
            assert answer.status == 404
        answer = await browser.get("/api/audit?action=FlowService/ResumeFlow&target=nothing", headers=bearer)
        [entry] = orjson.loads(answer.body)["entries"]
        assert (entry["target"], entry["calls"], entry["error"]) == ("nothing-3", 3, "FLOW_NOT_FOUND")
        assert entry["address"] == "203.0.113.9 via 127.0.0.1"
        await browser.log_in(router.token("view"))
        page = await browser.get("/audit?target=nothing-3")
        assert "3 times, last" in page.text
        assert "203.0.113.9 via 127.0.0.1" in page.text
