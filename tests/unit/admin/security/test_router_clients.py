"""One client for each token, a bounded number of them, and none that is closed in use."""

from __future__ import annotations

import pytest

from admin.security import router_clients
from admin.security.router_clients import RouterClients
from flowhook.errors import ExhaustedError, UnauthenticatedError


class Client:
    def __init__(self, token):
        self.token = token
        self.closed = False

    async def close(self):
        self.closed = True


@pytest.fixture
def opened():
    return []


@pytest.fixture
def clients(opened, monkeypatch):
    monkeypatch.setattr(router_clients, "MAX_CLIENTS", 2)

    def connect(token):
        opened.append(Client(token))
        return opened[-1]

    return RouterClients(connect)


async def use(clients, token):
    async with clients.client(token) as client:
        return client


async def test_requests_with_one_token_share_a_client(clients, opened):
    assert await use(clients, "a") is await use(clients, "a")
    assert (await use(clients, "b")).token == "b"
    assert [client.token for client in opened] == ["a", "b"]


async def test_beyond_the_limit_the_unused_one_that_was_used_least_recently_is_closed(clients, opened):
    for token in ("a", "b", "a", "c"):
        await use(clients, token)
    assert [(client.token, client.closed) for client in opened] == [("a", False), ("b", True), ("c", False)]
    assert clients.is_known("a")
    assert not clients.is_known("b")


async def test_one_in_use_is_not_closed(clients, opened):
    async with clients.client("a"), clients.client("b"):
        with pytest.raises(ExhaustedError):
            await use(clients, "c")
    assert [client.closed for client in opened] == [False, False]
    await use(clients, "c")
    assert [client.closed for client in opened] == [True, False, False]


async def test_one_whose_token_is_refused_is_closed_after_its_last_use(clients, opened):
    async with clients.client("a") as other:
        with pytest.raises(UnauthenticatedError):
            async with clients.client("a"):
                raise UnauthenticatedError("no")
        assert not clients.is_known("a")
        assert not other.closed
    assert other.closed


async def test_at_the_end_all_are_closed(clients, opened):
    await use(clients, "a")
    await use(clients, "b")
    await clients.aclose()
    assert all(client.closed for client in opened)
