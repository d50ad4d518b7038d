"""One router and one admin process for all tests of a module; each test has flows and browser profiles of its own."""

from __future__ import annotations

from contextlib import aclosing

import pytest_asyncio
from support.browsers import chromium, watched_tab
from support.consoles import running_console
from support.routers import running_router

from runner.tracing.tracer import ExecutionTracer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def router(tmp_path_factory):
    async with running_router(tmp_path_factory.mktemp("router") / "data") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(router):
    async with router.client() as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def console(router):
    async with aclosing(ExecutionTracer()) as tracer, running_console(router, tracer=tracer) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def browser(console):
    """A browser that nobody logged in with."""
    async with console.browser() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def operator(console, router):
    async with console.browser() as browser:
        await browser.log_in(router.token("admin"))
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def viewer(console, router):
    async with console.browser() as browser:
        await browser.log_in(router.token("view"))
        yield browser


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chrome():
    """One browser for all modules, since it takes seconds of CPU time to start; each tab has a profile of its own."""
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def tab(chrome, console):
    """A tab of a small screen; what it complains of, such as violations of the policy, fails the test."""
    async with watched_tab(chrome, f"http://{console.address}") as page:
        yield page
