"""The admin process before a real router, in this process, and a client that acts as a browser."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager

import aiohttp
from support.patience import PATIENCE
from support.routers import running_router

from admin import app
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import AdminSettings
from flowhook.sharing.table import AdminLimits

app.CALL_TIMEOUT = app.SILENCE_SECONDS = PATIENCE  # on a busy machine a router may look as if it hung

CSRF = re.compile(r'name="csrf_token" value="([^"]+)"')


class Answer:
    """A response that was read."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body
        self.text = body.decode("utf-8", "replace")


class Browser:
    """A client with a cookie jar that follows no redirect; `csrf_token` is that of the last page with a form."""

    def __init__(self, session):
        self.session = session
        self.csrf_token = ""

    async def request(self, method, path, **options):
        async with self.session.request(method, path, allow_redirects=False, **options) as response:
            answer = Answer(response.status, response.headers, await response.read())
        if found := CSRF.search(answer.text):
            self.csrf_token = found[1]
        return answer

    async def get(self, path, **options):
        return await self.request("GET", path, **options)

    async def post(self, path, fields=None, **options):
        """Send a form, with the CSRF token of the last page."""
        return await self.request("POST", path, data={"csrf_token": self.csrf_token, **(fields or {})}, **options)

    async def log_in(self, token):
        answer = await self.request("POST", "/login", data={"token": token})
        assert answer.status == 303, answer.text
        await self.get("/secrets")
        return answer


class Console:
    """A running admin process; `browser` opens a client with an empty cookie jar."""

    def __init__(self, address, stop):
        self.address = address
        self.stop = stop

    @asynccontextmanager
    async def browser(self):
        jar = aiohttp.CookieJar(unsafe=True)  # a host that is an address
        async with aiohttp.ClientSession(f"http://{self.address}", cookie_jar=jar) as session:
            yield Browser(session)


@asynccontextmanager
async def running_console(router, *, target="", tracer=None, limits=None, **settings):
    """Serve before a `RunningRouter`, reached at `target` if it is given; without a `tracer` there are no traces."""
    settings = AdminSettings(
        data_dir=router.settings.data_dir, router=target or router.target, admin_port=0, **settings
    )
    lifecycle = ProcessState(name="admin-1", role="admin")
    serving = asyncio.create_task(app.serve(settings, lifecycle, tracer, limits=limits or AdminLimits()))
    ready = asyncio.create_task(lifecycle.ready.wait())
    await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        ready.cancel()
        await serving
    try:
        yield Console(lifecycle.addresses["http"], lifecycle.stop.set)
    finally:
        lifecycle.stop.set()
        await serving


@asynccontextmanager
async def fresh_console(tmp_path):
    """A cluster without flows, and an operator at its console."""
    async with (
        running_router(tmp_path / "data") as router,
        router.client() as client,
        running_console(router) as console,
        console.browser() as browser,
    ):
        await browser.log_in(router.token("admin"))
        yield router, client, browser
