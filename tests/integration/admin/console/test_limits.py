"""What one token or one address can use up of an admin process, and what others get then."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace

import aiohttp
import pytest
import pytest_asyncio
from support.consoles import running_console
from support.limit_tables import limits_of
from support.patience import PATIENCE
from support.routers import flow
from support.uploads import uploaded

from admin.console import live, rendering
from flowhook import limits
from flowhook.security.tokens import TokenScope, create_token, revoke_token
from flowhook.sharing.table import AdminLimits

pytestmark = pytest.mark.asyncio(loop_scope="session")

LARGE = 16 * limits.MIB
BUSY = "[limit(300000000; repeat(1))] | length > 0"
"""A condition that takes longer than it may."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def large(router, client):
    """The path of a body that fits into no buffer."""
    await client.flows.apply([flow("large")])
    return f"/api/executions/{await uploaded(router, 'large', b'x' * LARGE)}/body"


@pytest.fixture
def guest(router):
    """Return a token that only views."""
    token = create_token(router.settings.data_dir, "guest", [TokenScope.VIEW])
    yield token
    revoke_token(router.settings.data_dir, "guest")


class StalledClient:
    """A client that sends a request and then reads nothing but the head of the response."""

    def __init__(self, console, *lines):
        self.connection = socket.socket()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, _, port = console.address.rpartition(":")
        self.connection.connect((host, int(port)))
        self.lines = lines

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(sock=self.connection, limit=1024)
        self.writer.write("\r\n".join([*self.lines, "Host: localhost", "", ""]).encode())
        async with asyncio.timeout(PATIENCE):
            self.status = int((await self.reader.readline())[9:12] or 0)
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()

    async def ended(self):
        """Read what was sent until the connection ends."""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(65536):
                    pass


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


async def until(status, get):
    async with asyncio.timeout(PATIENCE):
        while (await get()).status != status:
            await asyncio.sleep(0.01)


async def test_stalled_downloads_of_one_token_leave_places_to_others(router, large, guest):
    async with running_console(router) as console, console.browser() as browser, contextlib.AsyncExitStack() as stack:
        line = f"Authorization: Bearer {router.token('view')}"
        share = AdminLimits().downloads.total // AdminLimits().downloads.parts
        for _ in range(share):
            stalled = await stack.enter_async_context(StalledClient(console, f"GET {large} HTTP/1.1", line))
            assert stalled.status == 200
        refused = await browser.get(large, headers=bearer(router.token("view")))
        assert (refused.status, "TOO_MANY_DOWNLOADS" in refused.text) == (429, True)
        other = await browser.get(large, headers=bearer(guest))
        assert (other.status, len(other.body)) == (200, LARGE)


async def test_a_download_whose_client_reads_nothing_ends(router, large):
    short = AdminLimits(send_seconds=1.0)
    async with running_console(router, limits=short) as console, console.browser() as browser:
        line = f"Authorization: Bearer {router.token('view')}"
        share = short.downloads.total // short.downloads.parts
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(share):
                await stack.enter_async_context(StalledClient(console, f"GET {large} HTTP/1.1", line))
            await until(200, lambda: browser.get(large, headers=bearer(router.token("view"))))


async def test_responses_that_wait_for_their_clients_have_a_share_and_a_time(router, monkeypatch):
    monkeypatch.setattr(rendering, "render", lambda *_names, **_values: "x" * LARGE)
    one = replace(AdminLimits().response_bytes, total=4 * LARGE)  # a quarter of it is one response

    def serve(**others):
        return running_console(router, limits=AdminLimits(response_bytes=one, **others))

    request = "GET /login HTTP/1.1"
    async with serve() as console, StalledClient(console, request) as first, StalledClient(console, request) as second:
        await second.ended()
        assert not first.reader.at_eof()
    async with serve(send_seconds=1.0) as console, StalledClient(console, request), console.browser() as browser:
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    assert len((await browser.get("/login")).body) == LARGE
                    return


async def test_logging_in_again_opens_no_more_live_lists(router, guest):
    few = AdminLimits(live_lists=replace(AdminLimits().live_lists, total=8))
    async with running_console(router, limits=few) as console, contextlib.AsyncExitStack() as stack:
        statuses = []
        for _ in range(4):
            browser = await stack.enter_async_context(console.browser())
            await browser.log_in(router.token("view"))
            stream = await stack.enter_async_context(browser.session.get("/executions/stream"))
            statuses.append(stream.status)
        assert statuses == [200, 200, 429, 429]
        other = await stack.enter_async_context(console.browser())
        await other.log_in(guest)
        assert (await stack.enter_async_context(other.session.get("/executions/stream"))).status == 200


async def test_a_client_that_reads_nothing_occupies_no_live_list(router, guest, monkeypatch):
    monkeypatch.setattr(live, "INTERVAL_SECONDS", 0.001)
    monkeypatch.setattr(live, "REFRESH_SECONDS", 0.0)  # an event at every look
    one = AdminLimits(send_seconds=0.1, live_lists=replace(AdminLimits().live_lists, total=1))
    async with running_console(router, limits=one) as console, console.browser() as browser:
        await browser.log_in(guest)
        monkeypatch.setattr(rendering, "render", lambda *_names, **_values: "x" * 1_000_000)  # fills buffers soon
        [cookie] = [f"{cookie.key}={cookie.value}" for cookie in browser.session.cookie_jar]
        async with StalledClient(console, "GET /executions/stream HTTP/1.1", f"Cookie: {cookie}") as stalled:
            assert stalled.status == 200
            async with asyncio.timeout(PATIENCE):
                while True:
                    async with browser.session.get("/executions/stream") as response:
                        if response.status == 200:
                            break


async def test_conditions_of_one_token_do_not_delay_those_of_another(router, client, guest):
    await client.flows.apply([flow("searched")])
    await client.ingest("searched", {"a": 1})
    async with running_console(router) as console, console.browser() as busy, console.browser() as browser:

        async def search(of, token, condition):
            query = {"flow": "searched", "jq": condition}
            return await of.get("/api/executions", params=query, headers=bearer(token))

        requests = [
            asyncio.create_task(search(busy, router.token("view"), f"{BUSY} or {number}")) for number in range(20)
        ]
        await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
        answer = await search(browser, guest, ".a == 1")
        assert (answer.status, '"searched"' in answer.text) == (200, True)
        assert sum(not request.done() for request in requests) > 10
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)


async def test_a_valid_token_is_accepted_whatever_others_at_its_address_present(router, guest):
    async with running_console(router) as console, console.browser() as browser:
        for number in range(12):
            answer = await browser.request("POST", "/login", data={"token": f"fhk_{number}"})
        assert answer.status == 429
        await browser.log_in(guest)
        answer = await browser.get("/api/flows", headers=bearer(router.token("view")))
        assert answer.status == 200
        assert (await browser.get("/api/flows", headers=bearer("fhk_unknown"))).status == 429  # it made nothing undone


async def test_valid_tokens_do_not_count(router):
    async with running_console(router) as console:
        for _ in range(15):
            async with console.browser() as browser:
                await browser.log_in(router.token("view"))
        async with console.browser() as browser:
            assert (await browser.request("POST", "/login", data={"token": "fhk_wrong"})).status == 401


async def test_clients_behind_a_trusted_proxy_are_limited_one_by_one(router):
    async with running_console(router, trusted_proxies="127.0.0.0/8") as console, console.browser() as browser:

        async def attempt(client):
            headers = {"X-Forwarded-For": f"198.51.100.1, {client}"}
            return (await browser.request("POST", "/login", data={"token": "fhk_wrong"}, headers=headers)).status

        assert [await attempt("192.0.2.1") for _ in range(11)] == [401] * 10 + [429]
        assert await attempt("192.0.2.2") == 401


async def test_nobody_chooses_an_address_without_a_trusted_proxy(router):
    async with running_console(router) as console, console.browser() as browser:
        statuses = [
            (
                await browser.request(
                    "POST", "/login", data={"token": "fhk_wrong"}, headers={"X-Forwarded-For": f"192.0.2.{number}"}
                )
            ).status
            for number in range(11)
        ]
        assert statuses == [401] * 10 + [429]


async def connected(console, count):
    host, _, port = console.address.rpartition(":")
    return [await asyncio.open_connection(host, port) for _ in range(count)]


@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_address"])
async def test_connections_that_wait_for_requests_give_way(router, limit):
    async with running_console(router, **{limit: 5}) as console, console.browser() as browser:
        waiting = await connected(console, 20)
        assert (await browser.get("/healthz")).status == 200
        async with asyncio.timeout(PATIENCE):
            for reader, _ in waiting[:15]:
                assert await reader.read() == b""
        for _, writer in waiting:
            writer.close()


async def test_a_new_connection_does_not_end_requests_in_progress(router, large):
    async with running_console(router, max_connections=2) as console:
        line = f"Authorization: Bearer {router.token('view')}"
        async with (
            StalledClient(console, f"GET {large} HTTP/1.1", line) as first,
            StalledClient(console, f"GET {large} HTTP/1.1", line) as second,
        ):
            assert (first.status, second.status) == (200, 200)
            [(reader, writer)] = await connected(console, 1)
            async with asyncio.timeout(PATIENCE):
                assert await reader.read() == b""
            writer.close()
            assert await first.reader.readline()


async def test_bodies_that_do_not_end_use_up_no_memory_of_others(router, client, guest):
    await client.flows.apply([flow("bodies")])
    few = AdminLimits(request_bytes=replace(AdminLimits().request_bytes, total=2_000_000))
    async with running_console(router, limits=few) as console, console.browser() as browser:
        known = bearer(router.token("admin"))
        assert (await browser.get("/api/flows", headers=known)).status == 200  # from now on
        host, _, port = console.address.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = "POST /api/flows HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer fhk_any\r\n"
        writer.write(head.encode() + b"Content-Length: 500000\r\n\r\n" + b"x" * 490_000)
        await writer.drain()

        async def strangers():
            return await browser.request("POST", "/api/flows", data=b"x" * 400_000, headers=bearer("fhk_other"))

        await until(429, strangers)
        assert "TOO_MANY_REQUESTS" in (await strangers()).text
        body = {"reason": "x" * 400}
        answer = await browser.request("POST", "/api/flows/bodies/pause", json=body, headers=known)
        assert answer.status == 200
        writer.close()
        await until(401, strangers)


SCENARIOS = {
    "request_bytes": test_bodies_that_do_not_end_use_up_no_memory_of_others,
    "downloads": test_stalled_downloads_of_one_token_leave_places_to_others,
    "response_bytes": test_responses_that_wait_for_their_clients_have_a_share_and_a_time,
    "live_lists": test_logging_in_again_opens_no_more_live_lists,
    "computations": test_conditions_of_one_token_do_not_delay_those_of_another,
    "logins": test_a_valid_token_is_accepted_whatever_others_at_its_address_present,
}
"""What shows that a limit has shares, by its name in `AdminLimits`."""


async def test_every_limit_has_a_scenario():
    assert SCENARIOS.keys() == limits_of(AdminLimits).keys()
