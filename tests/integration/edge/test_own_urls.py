"""Flows at URLs of their own, at a real edge before a real router."""

from __future__ import annotations

import aiohttp
import pytest
import pytest_asyncio
from support.edges import running_edge
from support.patience import seen_within
from support.routers import running_router

from flowhook.errors import InvalidFlowError

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Place:
    def __init__(self, address, client, session):
        self.client = client
        self._address = address
        self._session = session

    async def apply(self, **webhooks):
        documents = [
            f"document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}\n"
            f"webhook: {{auth: none, {keys}}}\ndo: [{{keep: {{set: '${{ .body }}'}}}}]\n"
            for name, keys in webhooks.items()
        ]
        await self.client.flows.apply([each.encode() for each in documents])

    async def post(self, path, host=""):
        headers = {"Content-Type": "application/json"} | ({"Host": host} if host else {})
        async with self._session.post(f"http://{self._address}{path}", data=b"{}", headers=headers) as answer:
            return answer.status

    async def becomes(self, status, path, host=""):
        async def answered():
            return await self.post(path, host) == status

        await seen_within(10, answered)
        assert await self.post(path, host) == status

    async def flow_of_latest(self):
        [latest] = (await self.client.executions.page(page_size=1)).items
        return latest.flow_id


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory):
    async with (
        running_router(tmp_path_factory.mktemp("router") / "data") as router,
        running_edge(router) as address,
        router.client() as client,
        aiohttp.ClientSession() as session,
    ):
        yield Place(address, client, session)


async def test_a_flow_has_a_url_of_its_own_beside_the_one_of_all(place):
    assert await place.post("/stripe/events") == 404
    await place.apply(moved="path: /stripe/events")
    await place.becomes(202, "/stripe/events")
    assert await place.flow_of_latest() == "moved"
    assert await place.post("/hook/moved") == 202
    assert [await place.post(path) for path in ("/stripe/events/", "/stripe", "/stripe/eventsx", "/")] == [404] * 4
    await place.apply(moved="path: /stripe/v2")
    await place.becomes(202, "/stripe/v2")
    await place.becomes(404, "/stripe/events")
    await place.client.flows.delete("moved")
    await place.becomes(404, "/stripe/v2")


async def test_a_host_alone_and_a_host_with_a_path_are_urls_too(place):
    await place.apply(whole="host: Hooks.Example.com", part="host: hooks.example.com, path: /part")
    await place.becomes(202, "/", "hooks.example.com")
    assert await place.flow_of_latest() == "whole"
    assert await place.post("/part", "HOOKS.example.com:8080") == 202
    assert await place.flow_of_latest() == "part"
    assert await place.post("/part", "other.example.com") == 404


async def test_suffixes_and_callbacks_are_below_it(place):
    await place.apply(
        deep="path: /deep, subpaths: true",
        called="path: /called, callbacks: {go: {auth: {api_key: {header: X-Key, secret: key}}}}",
    )
    await place.becomes(202, "/deep/any/thing")
    await place.becomes(401, "/called/go")
    assert await place.post("/called/other") == 404
    assert await place.post("/called/go/no-such-token") == 404


@pytest.mark.parametrize(
    ("keys", "cause"),
    [
        ("path: /taken", "/taken is taken by flow owner, whose URL is /taken"),
        ("path: /taken, host: h.example", "h.example/taken is taken by flow owner"),
        ("path: /taken/below", "/taken/below is taken by flow owner"),
        ("path: /, subpaths: true", "/ is taken by flow owner"),
    ],
)
async def test_a_url_that_another_flow_has_is_refused(place, keys, cause):
    await place.apply(owner="path: /taken, subpaths: true")
    with pytest.raises(InvalidFlowError) as raised:
        await place.apply(late=keys)
    [fault] = [each for each in raised.value.faults if "flow owner" in each.cause]
    assert (fault.code, cause in fault.cause) == ("URL_TAKEN", True)


async def test_flows_that_are_applied_together_may_exchange_their_urls(place):
    await place.apply(one="path: /one", two="path: /two")
    await place.apply(one="path: /two", two="path: /one")
    with pytest.raises(InvalidFlowError):
        await place.apply(three="path: /three", four="path: /three")
