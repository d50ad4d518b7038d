"""Debian's Chromium, driven by playwright.

Where it is not installed, its tests are skipped; where `FLOWHOOK_CHROMIUM` names it, they fail.
"""

from __future__ import annotations

import os
import shutil
from contextlib import asynccontextmanager

import pytest

VARIABLE = "FLOWHOOK_CHROMIUM"


@asynccontextmanager
async def chromium():
    """A browser without a profile."""
    path = os.environ.get(VARIABLE) or shutil.which("chromium")
    if path is None:
        pytest.skip(f"there is no chromium: install it, or name one in {VARIABLE}")
    playwright = pytest.importorskip("playwright.async_api")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        await browser.close()
