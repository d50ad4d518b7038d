"""The pages of rejections, with a real edge: what was refused, why, and its acceptance after the fix."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re

import aiohttp
import orjson
import pytest
import pytest_asyncio
from support.browsers import chromium
from support.edges import running_edge
from support.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCRIPT = b'{"text": "<script>alert(1)</script>"}'
FORM = re.compile(r'<form method="post" action="(/rejections/[^"]+)"')


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def edge(router):
    async with running_edge(router) as address:
        yield address


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def refuse(edge, client):
    """Create a flow with the secret `wrong`, send it a request signed with `right`, and return the rejection ID."""

    async def refuse(name, body=SCRIPT, *, stored=True, arrived=None):
        await client.secrets.set(name, b"wrong")
        document = (
            f"document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}\n"
            f"webhook: {{auth: {{github: {{secret: {name}}}}}, keep_rejected_bodies: {str(stored).lower()}}}\n"
            "do: [{keep: {set: '${ .body }'}}]\n"
        )
        await client.flows.apply([document.encode()])
        signature = "sha256=" + hmac.new(b"right", body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": signature}
        url = f"http://{edge}/hook/{name}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=arrived or body, headers=headers) as answer,
        ):
            assert answer.status == 401
        async with asyncio.timeout(PATIENCE):
            while not (page := await client.rejections.page(flow_id=name)).items:
                await asyncio.sleep(0.02)
        return page.items[0].id

    return refuse


async def test_a_page_explains_a_rejection_and_offers_to_accept_it(operator, viewer, refuse):
    rejection = await refuse("explained")
    page = await operator.get(f"/rejections/{rejection}")
    assert page.status == 200
    for text in ("SIGNATURE_MISMATCH", "another secret", "&lt;script&gt;", "x-hub-signature-256", "[71 bytes]"):
        assert text in page.text, text
    assert "<script>" not in page.text
    assert FORM.findall(page.text) == [f"/rejections/{rejection}/accept"]
    seen = await viewer.get(f"/rejections/{rejection}")
    assert FORM.findall(seen.text) == []
    assert "An operator can accept it" in seen.text


async def test_the_page_of_its_flow_says_that_requests_were_rejected(viewer, refuse):
    await refuse("refusing")
    page = " ".join(re.sub(r"<[^>]+>", "", (await viewer.get("/flows/refusing")).text).split())
    assert re.search(r"Rejected ?1 request stored, the latest (now|\d+ s ago): ?SIGNATURE_MISMATCH", page)


async def test_the_body_can_be_downloaded_by_viewers_too(viewer, refuse):
    rejection = await refuse("downloaded", b"\xff\x00")
    answer = await viewer.get(f"/rejections/{rejection}/body")
    assert (answer.status, answer.body) == (200, b"\xff\x00")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{rejection}.bin"'
    page = await viewer.get(f"/rejections/{rejection}")
    assert "not UTF-8" in page.text
    assert "ff 00" in page.text


async def test_what_still_fails_is_shown_with_the_diagnosis_and_then_accepted_with_links_both_ways(
    operator, client, refuse
):
    rejection = await refuse("corrected", b'{"a":1}', arrived=b'{"a": 1}')
    await operator.get(f"/rejections/{rejection}")
    failed = await operator.post(f"/rejections/{rejection}/accept")
    assert failed.status == 409
    assert "the request is still refused: SIGNATURE_MISMATCH" in failed.text
    await client.secrets.set("corrected", b"right")
    diagnosed = await operator.post(f"/rejections/{rejection}/accept")
    assert "a proxy parsed it and wrote it again" in diagnosed.text
    rejection = await refuse("mended")
    await client.secrets.set("mended", b"right")
    await operator.get(f"/rejections/{rejection}")
    accepted = await operator.post(f"/rejections/{rejection}/accept")
    assert (accepted.status, accepted.headers["Location"]) == (303, f"/rejections/{rejection}")
    page = await operator.get(f"/rejections/{rejection}")
    [execution_id] = set(re.findall(r"/executions/(evt_\w+)", page.text))
    assert FORM.findall(page.text) == []
    execution = await operator.get(f"/executions/{execution_id}")
    assert f'after rejection <a href="/rejections/{rejection}">' in execution.text


async def test_what_does_not_qualify_says_why(operator, refuse):
    rejection = await refuse("unqualified", stored=False)
    page = await operator.get(f"/rejections/{rejection}")
    assert "keep_rejected_bodies" in page.text
    assert FORM.findall(page.text) == []
    answer = await operator.post(f"/rejections/{rejection}/accept")
    assert (answer.status, "can&#39;t be accepted" in answer.text) == (409, True)


async def test_a_viewer_and_a_foreign_form_are_refused(viewer, operator, refuse):
    rejection = await refuse("guarded")
    path = f"/rejections/{rejection}/accept"
    await viewer.get("/flows")
    assert (await viewer.post(path)).status == 403
    assert (await operator.request("POST", path, data={"csrf_token": "other"})).status == 403
    assert (await operator.post("/rejections/rej_none/accept")).status == 404


async def test_the_list_is_grouped_and_filtered_by_reason(operator, refuse):
    await refuse("grouped")
    page = await operator.get("/rejections?flow=grouped")
    assert re.search(r'<td class="num">1</td>', page.text)
    assert "/rejections?flow=grouped&amp;reason=SIGNATURE_MISMATCH" in page.text
    found = await operator.get("/rejections?flow=grouped&reason=SIGNATURE_MISMATCH")
    assert "/rejections/rej_" in found.text
    none = await operator.get("/rejections?flow=grouped&reason=BODY_INVALID")
    assert "No stored rejection meets these conditions" in none.text


async def test_the_api_accepts_it_as_the_button_does(browser, router, client, refuse):
    rejection = await refuse("by-api")
    await client.secrets.set("by-api", b"right")
    path = f"/api/rejections/{rejection}"
    for role, status in (("view", 403), ("admin", 200)):
        headers = {"Authorization": f"Bearer {router.token(role)}"}
        answer = await browser.request("POST", f"{path}/accept", headers=headers)
        assert answer.status == status, answer.text
    accepted = orjson.loads(answer.body)
    assert (accepted["rejection"], accepted["duplicate"]) == (rejection, False)
    listed = orjson.loads((await browser.get("/api/rejections?flow=by-api", headers=headers)).body)
    assert listed["rejections"][0]["accepted_execution"] == accepted["execution"]
    assert [(each["reason"], each["count"]) for each in listed["counts"]] == [("SIGNATURE_MISMATCH", 1)]
    assert (await browser.get(f"{path}/body", headers=headers)).body == SCRIPT


async def test_a_person_finds_out_what_is_wrong_corrects_it_and_accepts_the_request(console, router, refuse):
    rejection = await refuse("by-hand")
    async with chromium() as chrome:
        context = await chrome.new_context(base_url=f"http://{console.address}", viewport={"width": 360, "height": 740})
        context.set_default_timeout(PATIENCE * 1000)
        tab = await context.new_page()
        await tab.goto("/")
        await tab.get_by_label("Token").fill(router.token("admin"))
        await tab.get_by_role("button", name="Log in").click()
        await tab.get_by_role("link", name="Rejections").click()
        await tab.locator(f'a[href="/rejections/{rejection}"]').click()
        await tab.get_by_text("the signature does not match").wait_for()
        assert await tab.evaluate("document.documentElement.scrollWidth") <= 360
        await tab.get_by_text("Accept …").click()
        await tab.get_by_role("button", name="Accept").click()
        await tab.get_by_role("alert").get_by_text("still refused").wait_for()
        await tab.get_by_role("link", name="secrets", exact=True).click()
        await tab.get_by_label("Name").fill("by-hand")
        await tab.get_by_label("Value").fill("right")
        await tab.get_by_role("button", name="Set").click()
        await tab.goto(f"/rejections/{rejection}")
        await tab.get_by_text("Accept …").click()
        await tab.get_by_role("button", name="Accept").click()
        await tab.get_by_text("Accepted").first.wait_for()
        await tab.locator('a[href^="/executions/evt_"]').click()
        await tab.locator(f'a[href="/rejections/{rejection}"]').wait_for()
        await context.close()
