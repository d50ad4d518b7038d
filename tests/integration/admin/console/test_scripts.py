"""What the console's own scripts add: keys, copying, exact times, light and dark."""

from __future__ import annotations

import pytest
from support.browsers import log_in, watched_tab
from support.routers import flow

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_keys_move_along_rows_open_one_and_go_to_pages(tab, router, client):
    await client.flows.apply([flow("keyed-a"), flow("keyed-b")])
    ids = [await client.ingest("keyed-a", {}) for _ in range(3)]
    await log_in(tab, router.token("view"))
    await tab.goto("/executions?flow=keyed-a&live=off")
    await tab.keyboard.press("j")
    await tab.keyboard.press("j")
    await tab.keyboard.press("j")
    await tab.keyboard.press("k")
    await tab.keyboard.press("Enter")
    await tab.wait_for_url(f"**/executions/{ids[1]}")
    await tab.keyboard.press("g")
    await tab.keyboard.press("f")
    await tab.wait_for_url("**/flows")
    await tab.keyboard.press("?")
    await tab.get_by_role("dialog", name="Keyboard").wait_for()
    await tab.keyboard.press("Escape")
    await tab.get_by_role("dialog").wait_for(state="hidden")


async def test_a_slash_leads_to_the_conditions_and_what_is_typed_there_is_text(tab, router):
    await log_in(tab, router.token("view"))
    await tab.goto("/executions?live=off")
    await tab.keyboard.press("/")
    await tab.keyboard.type("jg?f")
    assert await tab.get_by_label("Flow", exact=True).input_value() == "jg?f"
    assert tab.url.endswith("/executions?live=off")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_chosen_theme_stays(chrome, console, router, scheme):
    async with watched_tab(chrome, f"http://{console.address}", color_scheme=scheme) as tab:
        await log_in(tab, router.token("view"))
        paper = "getComputedStyle(document.body).backgroundColor"
        by_system = await tab.evaluate(paper)
        seen = {by_system}
        for expected in ("light", "dark"):
            await tab.keyboard.press("t")
            assert await tab.evaluate("document.documentElement.dataset.theme") == expected
            seen.add(await tab.evaluate(paper))
            await tab.reload()
            assert await tab.evaluate("document.documentElement.dataset.theme") == expected
        await tab.get_by_role("button", name="Light or dark").click()
        assert await tab.evaluate(paper) == by_system
        assert len(seen) == 2


async def test_times_say_the_exact_one_in_utc_and_here(tab, router, client):
    await client.flows.apply([flow("timed")])
    await log_in(tab, router.token("view"))
    await tab.goto("/flows/timed")
    time = tab.locator("time").first
    await time.hover()
    utc, here = (await time.get_attribute("title")).split("\n")
    assert utc.endswith(" UTC")
    assert here
    await tab.evaluate("document.querySelector('time').dateTime = new Date(Date.now() - 7.5 * 3600e3).toISOString()")
    await tab.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert await time.inner_text() == "7 h ago"


async def test_without_scripts_there_are_no_buttons_that_need_them(chrome, console, router, client):
    await client.flows.apply([flow("unscripted")])
    async with watched_tab(chrome, f"http://{console.address}", java_script_enabled=False) as tab:
        await log_in(tab, router.token("admin"))
        await tab.goto("/flows/unscripted")
        assert await tab.get_by_text("Pause").count()
        for name in ("Copy", "Light or dark", "Keyboard"):
            assert not await tab.get_by_role("button", name=name).count()


async def test_on_paper_times_are_exact(tab, router, client):
    await client.flows.apply([flow("printed")])
    await log_in(tab, router.token("view"))
    await tab.goto("/flows/printed")
    after = "getComputedStyle(document.querySelector('time'), '::after').content"
    assert await tab.evaluate(after) == "none"
    await tab.emulate_media(media="print")
    assert "UTC" in await tab.evaluate(after)
