"""More connections than there may be: idle ones give way, and no address keeps the others out."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from support.certificates import Authority
from support.patience import PATIENCE

POST = b"POST /hook/open HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n%02d"

pytestmark = pytest.mark.usefixtures("open_flow", "quiet")


async def busy(sender, router):
    """Have a request under way that the router does not answer yet."""
    router.gate.clear()
    router.arrived.clear()
    sender.write(POST % 1)
    await asyncio.wait_for(router.arrived.wait(), PATIENCE)
    return sender


async def of(edge, address):
    """Return a connection of an address, as a balancer would make it."""
    sender = await edge.connect()
    sender.write(f"PROXY TCP4 {address} 10.0.0.1 1 2\r\n".encode())
    return sender


async def served(sender):
    assert (await sender.request("POST", "/hook/open", body=b"1")).status == 202
    return sender


async def test_one_more_than_there_may_be_learns_so_when_all_are_busy(start_edge, router):
    edge = await start_edge(max_connections=1)
    first = await busy(await edge.connect(), router)
    answer = await (await edge.connect()).response()
    assert (answer.status, answer.json()["reason"]) == (503, "TOO_MANY_CONNECTIONS")
    assert answer.headers["retry-after"] == "1"
    router.gate.set()
    assert (await first.response()).status == 202
    await served(await edge.connect())


async def test_the_one_that_has_been_idle_longest_gives_way(start_edge, router):
    edge = await start_edge(max_connections=2)
    longest, other = await served(await edge.connect()), await served(await edge.connect())
    further = await served(await edge.connect())
    assert await longest.at_eof() == b""
    longest.close()
    await served(other)
    await served(further)


async def test_a_connection_on_which_nothing_was_ever_sent_gives_way(start_edge):
    edge = await start_edge(max_connections=1)
    silent = await edge.connect()
    await served(await edge.connect())
    assert await silent.at_eof() == b""


async def test_a_request_that_crosses_the_end_is_not_reset(start_edge, monkeypatch):
    monkeypatch.setattr("edge.http.connection.LINGER_SECONDS", 3600.0)
    edge = await start_edge(max_connections=1)
    idle = await served(await edge.connect())
    await served(await edge.connect())
    assert await idle.at_eof() == b""
    count = len(edge.events())
    idle.write(POST % 2)
    await idle.writer.drain()
    await edge.post("/hook/nope")
    idle.write(POST % 3)
    await idle.writer.drain()  # fails after a reset
    assert len(edge.events()) == count


async def test_heads_that_do_not_come_give_way(start_edge):
    edge = await start_edge(max_connections=1)
    slow = await edge.connect()
    slow.write(b"POST /hook/open HT")
    await slow.writer.drain()
    await served(await edge.connect())
    assert (await slow.response()).status == 408


async def test_an_address_displaces_no_connection_but_its_own(start_edge):
    edge = await start_edge(max_connections=3, max_connections_per_address=2, proxy_protocol=True)
    victim = await served(await of(edge, "192.0.2.1"))
    idle = [await served(await of(edge, "203.0.113.9")) for _ in range(2)]
    for _ in range(5):
        idle.append(await served(await of(edge, "203.0.113.9")))
        assert await idle.pop(0).at_eof() == b""
    await served(victim)


async def test_an_address_at_its_limit_learns_so_and_others_are_served(start_edge, router):
    edge = await start_edge(max_connections_per_address=1, proxy_protocol=True)
    await busy(await of(edge, "203.0.113.9"), router)
    answer = await (await of(edge, "203.0.113.9")).response()
    assert (answer.status, answer.json()["reason"]) == (503, "TOO_MANY_CONNECTIONS")
    router.gate.set()
    await served(await of(edge, "192.0.2.1"))


async def test_trusted_proxies_have_no_limit_of_their_own(start_edge, router):
    edge = await start_edge(max_connections_per_address=1, trusted_proxies="127.0.0.0/8")
    await busy(await edge.connect(), router)
    router.gate.set()
    await served(await edge.connect())
    await served(await edge.connect())


async def test_an_address_that_begins_no_tls_keeps_nobody_out(start_edge, tmp_path, monkeypatch):
    monkeypatch.setattr("edge.http.server.HANDSHAKE_SECONDS", 3600.0)
    authority = Authority(tmp_path)
    certificate, key = authority.issue("edge")
    edge = await start_edge(
        max_connections=2,
        max_connections_per_address=1,
        proxy_protocol=True,
        tls_cert_file=certificate,
        tls_key_file=key,
    )
    stalled = [await of(edge, "203.0.113.9") for _ in range(5)]
    ends = [asyncio.create_task(sender.at_eof()) for sender in stalled]
    while sum(end.done() for end in ends) < 4:
        await asyncio.wait([end for end in ends if not end.done()], return_when=asyncio.FIRST_COMPLETED)
    other = await of(edge, "192.0.2.1")
    context = ssl.create_default_context(cafile=authority.ca_file)
    await asyncio.wait_for(other.writer.start_tls(context, server_hostname="127.0.0.1"), PATIENCE)
    await served(other)
    assert sum(end.done() for end in ends) == 4
    for end in ends:
        end.cancel()
