"""What routers agree on, and how they hear of each other, on a real server."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.cutting_relay import cutting_relay
from support.patience import PATIENCE

from flowhook.errors import InvalidError


def hear(heartbeats, name, content, again=lambda: None):
    """Wait until `content` of a router was heard; call `again` meanwhile, as a router does, and be heard by it."""
    deadline = time.monotonic() + PATIENCE
    while heartbeats.heard().get(name, (0, b""))[1] != content:
        assert time.monotonic() < deadline
        heartbeats.publish(b"listening")
        again()
        time.sleep(0.01)
    return heartbeats.heard()[name][0]


def test_a_fact_is_what_the_first_router_said(opened, server):
    first, second = opened(server).facts, opened(server).facts
    assert first.agree("secrets-key", "abc") == "abc"
    assert second.agree("secrets-key", "def") == "abc"
    assert second.agree("another", "def") == "def"


def test_routers_that_ask_at_once_agree(opened, cluster):
    systems = [opened(cluster) for _ in range(2)]
    start = threading.Barrier(2)

    def agree(number):
        start.wait(PATIENCE)
        return systems[number].facts.agree("fact", f"value-{number}")

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(agree, range(2))
    assert first == second


def test_routers_hear_each_other_and_not_themselves(opened, cluster):
    first, second = (opened(cluster, router=name).heartbeats for name in ("router-1", "router-2"))
    assert first.heard() == {}
    began = time.monotonic()
    heard = hear(second, "router-1", b"state", lambda: first.publish(b"state"))
    assert began <= heard <= time.monotonic()
    hear(first, "router-2", b"other", lambda: second.publish(b"other"))
    assert set(first.heard()) == {"router-2"}


def test_heartbeats_go_on_after_a_lost_connection(opened, server, prefix):
    with cutting_relay(server.address) as relay:
        url = server.url(prefix=prefix, max_bytes="50M").replace(server.address, relay.address)
        first, second = opened(server, url=url, router="router-1"), opened(server, router="router-2")
        hear(second.heartbeats, "router-1", b"before", lambda: first.heartbeats.publish(b"before"))
        relay.cut()
        hear(second.heartbeats, "router-1", b"after", lambda: first.heartbeats.publish(b"after"))
        hear(first.heartbeats, "router-2", b"back", lambda: second.heartbeats.publish(b"back"))


def test_a_client_that_the_server_closed_for_good_is_replaced(opened, server):
    """nats-py does not reconnect after some errors that a server reports."""
    first, second = opened(server, router="router-1"), opened(server, router="router-2")
    closed = first.log._connection.client
    first.log._connection.call(closed.close())
    assert first.log.append(0, "batch-1", b"data") == 1
    assert first.log._connection.client is not closed
    hear(first.heartbeats, "router-2", b"state", lambda: second.heartbeats.publish(b"state"))


def test_heartbeats_are_silent_after_the_end(opened, server):
    system = opened(server)
    system.close()
    system.heartbeats.publish(b"state")


@pytest.mark.parametrize("name", ["", "router.1", "router 1", "router*", "r" * 65])
def test_a_name_that_is_no_part_of_a_subject_is_refused(opened, server, name):
    with pytest.raises(InvalidError) as caught:
        opened(server, router=name or "\n")
    assert caught.value.reason == "ROUTER_NAME_INVALID"


def test_a_client_is_replaced_though_the_first_attempt_fails_in_an_unknown_way(opened, server, monkeypatch):
    first, second = opened(server, router="router-1"), opened(server, router="router-2")
    connection, connect, attempts = first.log._connection, first.log._connection._connect_client, []

    async def fail_once():
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("the credentials file is being written")
        await connect()

    monkeypatch.setattr(connection, "_connect_client", fail_once)
    connection.call(connection.client.close())
    hear(second.heartbeats, "router-1", b"back", lambda: first.heartbeats.publish(b"back"))
    assert len(attempts) == 2
