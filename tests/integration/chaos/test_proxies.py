"""The proxies of a campaign disturb what they are to disturb, and nothing else; a connection's process is known."""

import asyncio
import contextlib
import os
import socket
from contextlib import asynccontextmanager

import pytest
from support.patience import PATIENCE, until

from chaos.peers import UNKNOWN, Peers
from chaos.proxies import Disturbance, Mode, Proxies

FOREVER = 3600


class Processes:
    """A cluster of this one process."""

    def pid(self, name):
        return os.getpid() if name == "router-1" else None


@asynccontextmanager
async def echoing():
    """Run two servers that return what they get, behind proxies; yield the proxies, and what the first one got."""
    received, serving = [], set()

    async def serve(reader, writer):
        serving.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                received.append(data)
                writer.write(data)
        writer.close()

    servers = [await asyncio.start_server(serve, "127.0.0.1", 0) for _ in range(2)]
    ports = {f"nats-{number}": server.sockets[0].getsockname()[1] for number, server in enumerate(servers, 1)}
    proxies = Proxies(ports, Peers(Processes(), ("router-2", "router-1")))
    await proxies.start()
    try:
        yield proxies, received
    finally:
        await proxies.close()
        for server in servers:
            server.close()
            await server.wait_closed()
        await asyncio.gather(*serving)


@asynccontextmanager
async def disturbed(proxies, *arguments, **fields):
    task = asyncio.create_task(proxies.disturb(Disturbance(*arguments, **fields), FOREVER))
    await asyncio.sleep(0)
    yield
    task.cancel()
    await asyncio.wait({task})


@asynccontextmanager
async def connected(proxies, server="nats-1"):
    """Connect to a server; yield what sends something and returns the answer, which is empty if there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxies.ports[server])

    async def ask():
        async with asyncio.timeout(PATIENCE):
            try:
                writer.write(b"ping")
                return await reader.read(1000)
            except ConnectionError:
                return b""

    try:
        yield ask
    finally:
        writer.transport.abort()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def ask(proxies):
    async with connected(proxies) as asking:
        return await asking()


async def test_nothing_is_disturbed_at_first_and_again_afterwards():
    async with echoing() as (proxies, _):
        assert await ask(proxies) == b"ping"
        async with disturbed(proxies, Mode.CUT):
            assert await ask(proxies) == b""
        assert await ask(proxies) == b"ping"


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"router": "router-1"}, b""),
        ({"server": "nats-1"}, b""),
        ({"router": "router-2"}, b"ping"),
        ({"server": "nats-2"}, b"ping"),
        ({"router": "router-1", "server": "nats-2"}, b"ping"),
    ],
    ids=str,
)
async def test_only_the_connections_of_one_router_or_server_are_cut(fields, answer):
    async with echoing() as (proxies, _), connected(proxies) as asking:
        assert await asking() == b"ping"
        async with disturbed(proxies, Mode.CUT, **fields):
            assert await asking() == answer
            assert await ask(proxies) == answer


async def test_answers_are_swallowed_although_the_server_gets_what_is_sent():
    async with echoing() as (proxies, received), connected(proxies) as asking:
        async with disturbed(proxies, Mode.SWALLOW):
            answer = asyncio.create_task(asking())
            await until(lambda: received)
            assert not answer.done()
        assert await answer == b""  # the connection, of which bytes are missing, ends


async def test_what_is_sent_comes_later():
    async with echoing() as (proxies, _), disturbed(proxies, Mode.DELAY, delay=0.05):
        began = asyncio.get_running_loop().time()
        assert await ask(proxies) == b"ping"
        assert asyncio.get_running_loop().time() - began >= 0.1  # question and answer


async def test_a_connection_of_another_process_is_of_an_unknown_one():
    peers = Peers(Processes(), ("router-2",))
    async with echoing() as (proxies, _):
        _, writer = await asyncio.open_connection("127.0.0.1", proxies.ports["nats-1"])
        assert peers.name_of(writer.transport) == UNKNOWN
        writer.close()
        await writer.wait_closed()
        await writer.wait_closed()
    assert peers.name_of(None) == UNKNOWN


async def test_a_connection_is_known_although_earlier_ones_had_its_port():
    peers = Peers(Processes(), ("router-1",))
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = unused.getsockname()
    with contextlib.ExitStack() as stack:

        def connection():
            """Connect from the port to a new server; return both ends."""
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind(address)
            client.connect(server.getsockname())
            return client, stack.enter_context(server.accept()[0])

        for _ in range(8):
            client, accepted = connection()
            client.close()  # first: the kernel keeps the ends that were
            accepted.close()
        _, accepted = connection()
        _, writer = await asyncio.open_connection(sock=accepted)
        assert peers.name_of(writer.transport) == "router-1"
        writer.close()
        await writer.wait_closed()


async def test_a_connection_that_was_being_opened_does_not_outlive_the_proxies(monkeypatch):
    opening, go_on, opened = asyncio.Event(), asyncio.Event(), asyncio.open_connection

    async def late(*arguments):
        opening.set()
        await go_on.wait()
        return await opened(*arguments)

    async with asyncio.timeout(PATIENCE), echoing() as (proxies, _):
        monkeypatch.setattr(asyncio, "open_connection", late)
        reader, writer = await opened("127.0.0.1", proxies.ports["nats-1"])
        await opening.wait()
        closing = asyncio.create_task(proxies.close())
        await asyncio.sleep(0)  # it aborts the connections that there are
        go_on.set()
        await closing
        with contextlib.suppress(ConnectionError):
            assert not await reader.read()
        writer.close()
