"""The pages of a flow: its picture, how it is reached, its revisions, and its file checked before it is applied."""

from __future__ import annotations

import re
from html import unescape

import orjson
import pytest
import pytest_asyncio
from support.consoles import running_console
from support.routers import flow

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCRIPT = "<script>alert(1)</script>"
HEAD = "document: {dsl: 1.0.3, namespace: default, name: NAME, version: VERSION}\n"
SHOP = HEAD.replace("NAME", "shop") + (
    "webhook: {auth: {github: {secret: shop-hook}}, callbacks: {paid: {}}}\n"
    "do:\n"
    f"  - {SCRIPT!r}: {{switch: [{{{SCRIPT!r}: {{when: '.x == \"{SCRIPT}\"', then: next}}}}]}}\n"
    "  - next: {set: {a: 1}}\n"
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop(client):
    """A flow with three revisions."""
    for version, text in (("1.0.0", SHOP), ("1.1.0", SHOP.replace("a: 1", "a: 2")), ("2.0.0", SHOP)):
        await client.flows.apply([text.replace("VERSION", version).encode()])
    return "/flows/shop"


async def api(browser, router, path, *, token="view", **options):
    headers = {"Authorization": f"Bearer {router.token(token)}"}
    method = "POST" if "json" in options else "GET"
    answer = await browser.request(method, f"/api{path}", headers=headers, **options)
    return answer.status, orjson.loads(answer.body)


class TestFlow:
    async def test_the_picture_is_drawn_without_style_and_script(self, viewer, shop):
        answer = await viewer.get(shop)
        pictures = re.findall(r"<svg.*?</svg>", answer.text, re.DOTALL)
        [picture] = [each for each in pictures if "data-task" in each]
        assert all('role="img"' in each for each in pictures)
        assert 'data-task="/do/1/next"' in picture
        assert not re.search(r"style|<script|\son\w+=", picture.replace("&lt;script&gt;", ""))
        for path in re.findall(r'<link rel="stylesheet" href="([^"]+)"', answer.text):
            sheet = await viewer.get(path)
            assert (sheet.status, sheet.headers["Content-Type"]) == (200, "text/css; charset=utf-8")

    async def test_the_url_is_that_of_the_setting(self, router, shop):
        async with (
            running_console(router, public_url="https://hooks.example.com/") as console,
            console.browser() as browser,
        ):
            await browser.log_in(router.token("view"))
            text = (await browser.get(shop)).text
            assert '<code id="url1">https://hooks.example.com/hook/shop</code>' in text
            assert '<code id="url2">https://hooks.example.com/hook/shop/paid</code>' in text
            assert "Payload URL: https://hooks.example.com/hook/shop." in text

    async def test_without_edges_and_setting_the_url_is_a_path(self, viewer, shop):
        text = (await viewer.get(shop)).text
        assert '<code id="url1">/hook/shop</code>' in text
        assert "FLOWHOOK_PUBLIC_URL" in text

    async def test_secrets_are_shown_as_set_or_missing(self, viewer, client, shop):
        assert text_of(await viewer.get(shop)).count("shop-hook missing") == 2
        await client.secrets.set("shop-hook", b"hunter2")
        try:
            text = text_of(await viewer.get(shop))
            assert text.count("shop-hook set") == 2
            assert "hunter2" not in text
        finally:
            await client.secrets.delete("shop-hook")

    async def test_the_next_times_of_a_schedule_are_shown(self, viewer, client):
        text = HEAD.replace("NAME", "timed").replace("VERSION", "1.0.0")
        await client.flows.apply([(text + "schedule: {cron: '0 9 * * MON'}\ndo: [{a: {set: {b: 1}}}]\n").encode()])
        shown = (await viewer.get("/flows/timed")).text
        assert len(re.findall(r'class="moment"[^>]*>\d{4}-\d\d-\d\d 09:00:00<', shown)) == 5

    async def test_an_earlier_revision_is_shown_with_its_picture_and_file_only(self, viewer, shop):
        text = (await viewer.get(f"{shop}?revision=2")).text
        assert "a: 2" in text
        assert 'data-task="/do/1/next"' in text
        assert "Payload URL" not in text
        for query, status in (("revision=9", 404), ("revision=x", 400), ("revison=1", 400)):
            assert (await viewer.get(f"{shop}?{query}")).status == status

    async def test_a_flow_is_deleted_after_a_confirmation(self, operator, viewer, client):
        await client.flows.apply([flow("doomed")])
        assert 'action="/flows/doomed/delete"' in (await operator.get("/flows/doomed")).text
        assert 'action="/flows/doomed/delete"' not in (await viewer.get("/flows/doomed")).text
        assert (await viewer.post("/flows/doomed/delete")).status == 403
        answer = await operator.post("/flows/doomed/delete", {"reason": "no longer used"})
        assert (answer.status, answer.headers["Location"]) == (303, "/flows")
        assert '<p class="notice" role="status">The flow doomed was deleted.</p>' in (await operator.get("/flows")).text
        assert "was deleted" not in (await operator.get("/flows")).text
        assert (await viewer.get("/flows/doomed")).status == 404
        assert (await operator.post("/flows/doomed/delete")).status == 404
        assert (await viewer.get("/flows/doomed/revisions")).status == 404

    async def test_the_api_has_the_same(self, browser, router, shop):
        status, setup = await api(browser, router, f"{shop}/setup")
        assert status == 200
        assert [endpoint["url"] for endpoint in setup["endpoints"]] == ["/hook/shop", "/hook/shop/paid"]
        assert setup["secrets"] == [{"name": "shop-hook", "updated_at": None}]
        status, picture = await api(browser, router, f"{shop}/picture?revision=2")
        assert (status, picture["revision"], picture["svg"][:4]) == (200, 2, "<svg")
        assert (await api(browser, router, f"{shop}/delete", json={}))[0] == 403


class TestRevisions:
    async def test_revisions_are_listed_and_the_last_change_is_shown(self, viewer, shop):
        answer = await viewer.get(f"{shop}/revisions")
        assert re.findall(r'\?revision=(\d)"', answer.text) == ["3", "2", "1"]
        assert changes(answer) == ["-version: 1.1.0", "+version: 2.0.0", "-a: 2", "+a: 1"]
        assert "<script>" not in answer.text

    @pytest.mark.parametrize(
        ("query", "lines"),
        [
            ("old=1&new=2", ["-version: 1.0.0", "+version: 1.1.0", "-a: 1", "+a: 2"]),
            ("old=1", ["-version: 1.0.0", "+version: 2.0.0"]),
            ("new=2", ["-version: 1.0.0", "+version: 1.1.0", "-a: 1", "+a: 2"]),
            ("new=1", []),
            ("old=2&new=2", []),
            ("old=&new=", ["-version: 1.1.0", "+version: 2.0.0", "-a: 2", "+a: 1"]),
        ],
    )
    async def test_any_two_are_compared(self, viewer, shop, query, lines):
        assert changes(await viewer.get(f"{shop}/revisions?{query}")) == lines

    @pytest.mark.parametrize(
        ("query", "status"), [("old=9", 404), ("new=9", 404), ("old=x", 400), ("older=1", 400), ("page_token=x", 400)]
    )
    async def test_what_does_not_exist_is_refused(self, viewer, shop, query, status):
        assert (await viewer.get(f"{shop}/revisions?{query}")).status == status

    async def test_an_earlier_revision_is_applied_again_by_way_of_the_form(self, operator, client, shop):
        page = await operator.get(f"{shop}/revisions")
        assert '<input type="hidden" name="revision" value="2">' in page.text
        form = await operator.get("/apply?flow=shop&revision=2")
        assert "The file of shop as of revision 2 , applied" in text_of(form)
        assert "as of revision 3 , applied" in text_of(await operator.get("/apply?flow=shop"))
        assert "as of revision" not in text_of(await operator.get("/apply"))
        text = document(form)
        assert "a: 2" in text
        answer = await operator.post("/flows", {"document": text})
        assert (answer.status, answer.headers["Location"]) == (303, shop)
        assert b"a: 2" in (await client.flows.get("shop")).document
        await client.flows.apply([SHOP.replace("VERSION", "2.0.0").encode()])

    async def test_the_form_names_its_parameters(self, operator, shop):
        for query, status in (
            ("flow=nope", 404),
            ("flow=shop&revision=99", 404),
            ("flwo=shop", 400),
            ("revision=1", 400),
        ):
            assert (await operator.get(f"/apply?{query}")).status == status

    async def test_the_api_has_the_same(self, browser, router, shop):
        status, page = await api(browser, router, f"{shop}/revisions?page_size=1")
        assert (status, len(page["revisions"]), page["next_page_token"]) == (
            200,
            1,
            str(page["revisions"][0]["revision"]),
        )
        status, difference = await api(browser, router, f"{shop}/diff?old=1&new=2")
        assert (status, difference["old"], difference["new"]) == (200, 1, 2)
        assert {line["mark"] for line in difference["lines"]} == {"@", " ", "-", "+"}
        assert (await api(browser, router, "/flows/nope/diff"))[0] == 404


class TestChecking:
    async def test_a_valid_file_is_shown_with_its_changes_and_picture_and_not_applied(self, operator, client, shop):
        await operator.get("/apply?flow=shop")
        text = (await client.flows.get("shop")).document.decode().replace("next: {set", "afterwards: {set")
        text = text.replace("then: next", "then: afterwards")
        answer = await operator.post("/check", {"document": text.replace("\n", "\r\n"), "reason": "trying"})
        assert answer.status == 200
        assert document(answer) == text
        assert 'data-task="/do/1/afterwards"' in answer.text
        assert any("afterwards" in line for line in changes(answer))
        assert "secret shop-hook is not set yet" in answer.text
        assert '<a href="/secrets?name=shop-hook#value" target="_blank">' in answer.text
        assert 'value="trying"' in answer.text
        assert b"afterwards" not in (await client.flows.get("shop")).document

    async def test_a_new_flow_and_one_without_changes_are_recognised(self, operator, client, shop):
        await operator.get("/apply")
        fresh = await operator.post("/check", {"document": flow("fresh").decode()})
        assert "creates the flow <strong>fresh</strong>" in fresh.text
        same = await operator.post("/check", {"document": (await client.flows.get("shop")).document.decode()})
        assert "has this file already" in same.text
        assert changes(fresh) == changes(same) == []

    async def test_problems_stand_below_their_lines(self, operator):
        await operator.get("/apply")
        text = flow("typed").decode() + f"nope: '{SCRIPT}'\nmore: 1\n"
        for path, status in (("/check", 200), ("/flows", 400)):
            answer = await operator.post(path, {"document": text})
            assert answer.status == status
            assert [unescape(line) for line in re.findall(r'class="bad" id="(line-\d+)"', answer.text)] == [
                "line-5",
                "line-6",
            ]
            rows = re.findall(r'<tr class="fault"><td></td><td><code>(\w+)</code>', answer.text)
            assert rows == ["nope", "more"]
            assert document(answer) == text
            assert "<script>" not in answer.text

    async def test_a_file_that_is_no_yaml_and_none_at_all_are_answered(self, operator):
        await operator.get("/apply")
        assert 'role="alert"' in (await operator.post("/check", {"document": "a: [b"})).text
        assert (await operator.post("/check", {"document": ""})).status == 400
        assert (await operator.post("/check", {"document": "x" * 300_000})).status in (200, 400)

    async def test_the_address_of_a_check_shows_the_form(self, operator):
        assert "my-flow" in document(await operator.get("/check"))

    async def test_a_viewer_neither_checks_nor_applies(self, viewer):
        await viewer.get("/secrets")
        for path in ("/check", "/flows"):
            assert (await viewer.post(path, {"document": flow("typed").decode()})).status == 403

    async def test_the_api_returns_problems_by_line(self, browser, router, client, shop):
        status, checked = await api(
            browser, router, "/check", token="admin", json={"document": flow("x").decode() + "nope: 1\n"}
        )
        assert (status, checked["flow"], checked["change"], checked["picture"]) == (200, None, None, "")
        [problem] = checked["problems"]
        assert (problem["line"], problem["key"], problem["code"]) == (5, "nope", "KEY_UNKNOWN")
        assert set(problem) == {"line", "key", "message", "code"}
        changed = (await client.flows.get("shop")).document.decode().replace("a: 1", "a: 7")
        status, checked = await api(browser, router, "/check", token="admin", json={"document": changed})
        assert (checked["problems"], checked["flow"], checked["change"]) == ([], "shop", "updated")
        assert [line["mark"] for line in checked["diff"] if line["mark"] in "+-"] == ["-", "+"]
        assert checked["picture"].startswith("<svg")
        assert (await api(browser, router, "/check", json={"document": changed}))[0] == 403


def text_of(answer):
    """Return the text of a page, without its tags and with single spaces."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


def document(answer):
    [text] = re.findall(r"<textarea[^>]*>\n(.*)</textarea>", answer.text, re.DOTALL)
    return unescape(text)


def changes(answer):
    """Return what the lines of a diff that were removed or added say in their last braces, each with its mark."""
    rows = re.findall(r'<tr class="(removed|added)">.*?<code>(.*?)</code></td></tr>', answer.text)
    marks = {"removed": "-", "added": "+"}
    return [marks[kind] + re.findall(r"[{ ,]+([\w-]+: [\w.]+)\}", unescape(text))[-1] for kind, text in rows]
