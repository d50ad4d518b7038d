"""What holds for all connections together: how many there may be, what they take, how they end; and the port."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from support.budgets import limits_with
from support.patience import PATIENCE, turns

from edge.app import serve
from flowhook.errors import UnavailableError
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import EdgeSettings

POST = b"POST /hook/open HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n%02d"

pytestmark = pytest.mark.usefixtures("open_flow", "quiet")


class TestOneTooMany:
    @pytest.fixture
    async def full(self, start_edge, monkeypatch):
        monkeypatch.setattr("edge.http.server.MAX_TURNED_AWAY", 1)
        edge = await start_edge(max_connections=1, drain_seconds=3600.0)
        edge.served = await edge.connect()
        edge.router.gate.clear()
        edge.served.write(POST % 1)
        await edge.router.arrived.wait()
        return edge

    async def turned_away(self, edge):
        sender = await edge.connect()
        sender.write(b"POST /hook/open HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 2_000_000)
        await sender.writer.drain()
        assert (await sender.response()).status == 503
        return sender

    async def test_it_sees_its_answer_whatever_it_has_sent(self, full):
        await self.turned_away(full)
        full.router.gate.set()
        assert (await full.served.response()).status == 202

    async def test_few_of_them_linger_and_none_for_long(self, full):
        lingering, further = await self.turned_away(full), await full.connect()

        async def send_on(sender):
            while True:
                sender.write(b"x")
                await sender.writer.drain()
                await asyncio.sleep(0.01)

        async with turns() as passed:
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(send_on(further), PATIENCE)
        assert passed.seconds < 0.5
        lingering.write(b"x")
        await lingering.writer.drain()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(send_on(lingering), PATIENCE)
        full.router.gate.set()

    async def test_those_that_linger_do_not_keep_the_edge_from_ending(self, full):
        await self.turned_away(full)
        full.router.gate.set()
        assert (await full.served.response()).status == 202
        full.served.close()
        full.lifecycle.stop.set()
        await asyncio.wait_for(full.task, PATIENCE)


async def test_a_server_with_little_memory_refuses_large_bodies(start_edge):
    edge = await start_edge(limits=limits_with(100_000))
    answer = await edge.post("/hook/open", b"x" * 300_000, [])
    assert (answer.status, answer.json()["reason"]) == (503, "OVERLOADED")
    for _ in range(5):
        assert (await edge.post("/hook/open", b"x" * 90_000, [])).status == 202


async def test_what_is_dropped_takes_no_memory(start_edge, capsys):
    edge = await start_edge(limits=limits_with(30_000))
    sender = await edge.connect()
    sender.write(b"POST /hook/nope HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n")
    assert (await sender.response()).status == 404
    for _ in range(6):
        sender.write(b"x" * 10_000)
        await sender.writer.drain()
        assert (await edge.post("/hook/nope")).status == 404
    assert (await sender.request("POST", "/hook/open", body=b"1")).status == 202
    assert "connection failed" not in "".join(capsys.readouterr())


async def test_heads_that_are_not_complete_take_of_the_same_memory(start_edge):
    edge = await start_edge(limits=limits_with(100_000))
    slow = [await edge.connect() for _ in range(3)]
    for sender in slow:
        sender.write(b"POST /hook/open HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40_000)
    answered = [asyncio.create_task(sender.response()) for sender in slow]
    (refused, *_), waiting = await asyncio.wait(answered, return_when=asyncio.FIRST_COMPLETED)
    assert (refused.result().status, refused.result().json()["reason"]) == (503, "OVERLOADED")
    assert (await edge.post("/hook/open")).status == 202
    for sender, answer in zip(slow, answered, strict=True):
        if answer in waiting:
            sender.write(b"\r\n\r\n")
            await answer
    assert (await edge.post("/hook/open", b"x" * 90_000, [])).status == 202  # all of it was given back


async def no_longer_accepts(edge):
    with contextlib.suppress(ConnectionError):
        while True:
            (await edge.connect()).close()


class TestDraining:
    async def test_requests_under_way_are_finished_and_idle_connections_closed(self, start_edge, router):
        edge = await start_edge(drain_seconds=3600.0)
        idle = await edge.connect()
        assert (await idle.request("POST", "/hook/open", body=b"1")).status == 202
        router.gate.clear()
        router.arrived.clear()
        busy = await edge.connect()
        busy.write(POST % 2)
        await router.arrived.wait()

        edge.lifecycle.stop.set()
        assert await idle.at_eof() == b""
        with pytest.raises(ConnectionError):
            await edge.connect()
        router.gate.set()

        answer = await busy.response()
        assert answer.status == 202
        assert answer.headers["connection"] == "close"
        assert await busy.at_eof() == b""
        await asyncio.wait_for(edge.task, PATIENCE)

    async def test_a_request_on_a_connection_that_was_idle_is_answered_and_reported_to_be_the_last(
        self, start_edge, monkeypatch
    ):
        monkeypatch.setattr("edge.http.server.ANNOUNCE_SECONDS", 3600.0)
        edge = await start_edge(drain_seconds=3 * 3600.0)
        idle, pipelining = await edge.connect(), await edge.connect()
        for sender in (idle, pipelining):
            assert (await sender.request("POST", "/hook/open", body=b"1")).status == 202
        edge.lifecycle.stop.set()
        await no_longer_accepts(edge)
        answer = await idle.request("POST", "/hook/open", body=b"2")
        assert (answer.status, answer.headers["connection"]) == (202, "close")
        pipelining.write(b"".join(POST % number for number in range(3)))
        answers = [await pipelining.response() for _ in range(3)]
        assert [answer.status for answer in answers] == [202] * 3
        assert [answer.headers.get("connection") for answer in answers] == [None, None, "close"]
        for sender in (idle, pipelining):
            assert await sender.at_eof() == b""
            sender.close()
        await asyncio.wait_for(edge.task, PATIENCE)

    async def test_a_request_that_crosses_the_end_is_not_reset(self, start_edge, monkeypatch):
        monkeypatch.setattr("edge.http.server.ANNOUNCE_SECONDS", 0.0)
        monkeypatch.setattr("edge.http.connection.LINGER_SECONDS", 3600.0)
        edge = await start_edge(drain_seconds=3 * 3600.0)
        idle = await edge.connect()
        assert (await idle.request("POST", "/hook/open", body=b"1")).status == 202
        edge.lifecycle.stop.set()
        assert await idle.at_eof() == b""
        sock = idle.writer.get_extra_info("socket")
        for number in range(3):  # as of a sender that does not look
            idle.write(POST % number)
            await idle.writer.drain()
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            await asyncio.sleep(0)
        assert not edge.task.done()
        idle.close()
        await asyncio.wait_for(edge.task, PATIENCE)
        assert len(edge.events()) == 1

    async def test_senders_that_send_on_are_not_reset(self, start_edge):
        """Each answer but the last one is followed by another request; an end without an answer was seen to come."""
        edge = await start_edge(drain_seconds=3600.0)
        answered = asyncio.Semaphore(0)

        async def send_on(sender):
            while True:
                answer = await sender.request("POST", "/hook/open", body=b"1")
                answered.release()
                if answer.headers.get("connection") == "close":
                    assert await sender.at_eof() == b""
                    sender.close()
                    return answer.status
                await asyncio.sleep(0.001)

        senders = [asyncio.create_task(send_on(await edge.connect())) for _ in range(20)]
        for _ in range(100):
            await answered.acquire()
        edge.lifecycle.stop.set()
        assert await asyncio.wait_for(asyncio.gather(*senders), PATIENCE) == [202] * 20
        await asyncio.wait_for(edge.task, PATIENCE)

    async def test_connections_that_the_kernel_has_accepted_are_served(self, start_edge):
        edge = await start_edge(drain_seconds=3600.0)
        edge.lifecycle.stop.set()
        sock = socket.create_connection(("127.0.0.1", edge.port))  # while the loop stands still
        sock.sendall(POST % 1)
        sock.setblocking(False)
        data = b""
        async with asyncio.timeout(PATIENCE):
            while piece := await asyncio.get_running_loop().sock_recv(sock, 4096):
                data += piece
        sock.close()
        assert data.startswith(b"HTTP/1.1 202 ")
        await asyncio.wait_for(edge.task, PATIENCE)

    async def test_what_takes_too_long_is_given_up(self, start_edge, router):
        edge = await start_edge(drain_seconds=0.1)
        router.gate.clear()
        busy = await edge.connect()
        busy.write(POST % 1)
        await router.arrived.wait()
        slow = await edge.connect()
        slow.write(b"POST /hook/open HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        await slow.writer.drain()
        edge.lifecycle.stop.set()
        await asyncio.wait_for(edge.task, PATIENCE)
        assert (await busy.response()).status == 503
        assert await busy.at_eof() == b""
        assert await slow.at_eof() == b""

    async def test_a_request_that_waits_for_something_else_does_not_keep_the_edge_from_ending(
        self, start_edge, monkeypatch
    ):
        waits = asyncio.Event()

        async def wait(*_):
            waits.set()
            await asyncio.Event().wait()

        monkeypatch.setattr("edge.webhook.stages.parse_inline", lambda *_: None)
        monkeypatch.setattr("edge.webhook.stages.Stages._parse_apart", wait)
        edge = await start_edge(drain_seconds=0.1)
        busy = await edge.connect()
        busy.write(POST % 1)
        await waits.wait()
        edge.lifecycle.stop.set()
        await asyncio.wait_for(edge.task, PATIENCE)
        assert await busy.at_eof() == b""


async def test_several_edges_share_a_port(start_edge, router):
    first = await start_edge(reuse_port=True)
    second = await start_edge(http_port=first.port, reuse_port=True)
    assert second.port == first.port
    answers = [await first.post("/hook/open", b"%d" % number) for number in range(20)]
    assert [answer.status for answer in answers] == [202] * 20


async def test_an_edge_shares_its_port_only_when_it_is_asked_to(start_edge, router, tmp_path):
    first = await start_edge()
    settings = EdgeSettings(token="fhk_test", data_dir=tmp_path, http_port=first.port, reuse_port=True)
    with pytest.raises(UnavailableError, match="can't listen"):
        await serve(settings, ProcessState(name="edge", role="edge"), registry=CollectorRegistry())


async def test_a_port_that_is_taken_is_reported(router, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = EdgeSettings(token="fhk_test", data_dir=tmp_path, http_port=taken.getsockname()[1])
        with pytest.raises(UnavailableError) as caught:
            await serve(settings, ProcessState(name="edge", role="edge"), registry=CollectorRegistry())
    assert caught.value.reason == "PORT_UNAVAILABLE"


async def test_an_address_that_is_none_of_this_machine_is_reported(router, tmp_path):
    settings = EdgeSettings(token="fhk_test", data_dir=tmp_path, host="192.0.2.1", http_port=8080)
    with pytest.raises(UnavailableError) as caught:
        await serve(settings, ProcessState(name="edge", role="edge"), registry=CollectorRegistry())
    assert caught.value.message == f"can't listen on 192.0.2.1:8080: {os.strerror(errno.EADDRNOTAVAIL)}"


async def test_answers_are_counted_by_status_and_reason(start_edge, router):
    registry = CollectorRegistry()
    edge = await start_edge(registry=registry)
    await edge.post("/hook/open")
    await edge.post("/hook/nope")
    text = generate_latest(registry).decode()
    name = 'http_server_request_duration_seconds_count{error_type="%s",http_request_method="POST"'
    assert f'{name % ""},http_response_status_code="202",http_route="/hook/{{flow}}"}} 1.0' in text
    assert f'{name % "FLOW_NOT_FOUND"},http_response_status_code="404",http_route=""}} 1.0' in text
    assert "flowhook_accept_duration_seconds_count 1.0" in text
