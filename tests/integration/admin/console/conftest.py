"""One router and one admin process for all tests of a module; each test has flows and browsers of its own."""

from __future__ import annotations

from contextlib import aclosing

import pytest_asyncio
from support.browsers import chromium, watched_tab
from support.consoles import running_console
from support.routers import running_router

from runner.tracing.tracer import ExecutionTracer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(tmp_path_factory):
    async with running_router(tmp_path_factory.mktemp("router") / "data") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(router):
    async with router.client() as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(router):
    async with aclosing(ExecutionTracer()) as tracer, running_console(router, tracer=tracer) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def browser(console):
    """A browser that nobody logged in with."""
    async with console.browser() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def operator(console, router):
    async with console.browser() as browser:
        await browser.log_in(router.token("admin"))
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def viewer(console, router):
    async with console.browser() as browser:
        await browser.log_in(router.token("view"))
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chrome():
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def tab(chrome, console):
    """A tab of a small screen; what it complains of, such as violations of the policy, fails the test."""
    async with watched_tab(chrome, f"http://{console.address}") as page:
        yield page
