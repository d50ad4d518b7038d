"""Debian's Chromium, driven by playwright.

Where it is not installed, its tests are skipped; where `FLOWHOOK_CHROMIUM` names it, they fail.
"""

from __future__ import annotations

import os
import shutil
from contextlib import asynccontextmanager

import pytest
from support.patience import PATIENCE

VARIABLE = "FLOWHOOK_CHROMIUM"


@asynccontextmanager
async def chromium():
    """A browser without a profile."""
    path = os.environ.get(VARIABLE) or shutil.which("chromium")
    if path is None:
        pytest.skip(f"there is no chromium: install it, or name one in {VARIABLE}")
    playwright = pytest.importorskip("playwright.async_api")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"], timeout=PATIENCE * 1000
        )
        yield browser
        await browser.close()


@asynccontextmanager
async def watched_tab(browser, base_url, **options):
    """Open a tab of a small screen; what it complains of, such as violations of the policy, fails."""
    context = await browser.new_context(base_url=base_url, **{"viewport": {"width": 360, "height": 740}} | options)
    context.set_default_timeout(PATIENCE * 1000)
    page = await context.new_page()
    complaints = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    await context.close()
    assert complaints == [], complaints


async def log_in(tab, token):
    """Log in at the console, as a person does."""
    await tab.goto("/")
    await tab.get_by_label("Token").fill(token)
    await tab.get_by_role("button", name="Log in").click()
    await tab.get_by_role("heading", name="Overview").wait_for()
