"""What is checked when a router connects to the servers of the log, and what it is told to write."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from support.certificates import Authority
from support.nats_servers import CAMPAIGN, nats_cluster, nats_server
from support.patience import PATIENCE

from flowhook.errors import InvalidError, UnavailableError

QUICKLY = 0.3


def refused(opened, url, error=InvalidError, **options):
    with pytest.raises(error) as caught:
        opened(None, url=url, **options)
    return caught.value.reason, caught.value.message


def test_a_log_is_found_again_as_it_was_created(opened, server):
    first, second = opened(server).log, opened(server).log
    assert first.identity == second.identity
    assert [(each.name, each.version[:2], each.leader) for each in first.status().servers] == [("single", "2.", True)]


def test_routers_that_create_a_log_at_once_have_the_same(opened, cluster):
    with ThreadPoolExecutor(2) as pool:
        systems = list(pool.map(opened, [cluster] * 2))
    assert len({system.log.identity for system in systems}) == 1


def test_the_servers_of_a_cluster_are_listed(opened, cluster):
    servers = opened(cluster).log.status().servers
    assert [each.name for each in servers] == ["nats-1", "nats-2", "nats-3"]
    assert [each.leader for each in servers].count(True) == 1
    assert all(each.version for each in servers)


def test_a_log_is_not_created_when_it_shall_be_there(opened, server, prefix):
    reason, _ = refused(opened, server.url(prefix=prefix), UnavailableError, create=False)
    assert reason == "LOG_MISSING"


def test_a_call_that_loses_a_cancellation_ends_with_the_connection_nevertheless(opened, server):
    connection, begun = opened(server).log._connection, threading.Event()

    async def call():
        begun.set()
        with suppress(asyncio.CancelledError):  # as `wait_for` of Python 3.11 does when its result is there
            await asyncio.sleep(PATIENCE)
        await asyncio.sleep(PATIENCE)

    called = connection.submit(call())
    begun.wait()
    connection.close()
    assert called.done()
    with pytest.raises(UnavailableError, match="the connection was closed"):
        connection.result(called)


def test_wrong_credentials(opened, server):
    reason, message = refused(opened, server.url().replace("secret", "guess"))
    assert reason == "LOG_CREDENTIALS"
    assert "flowhook" in message
    assert "guess" not in message


def test_servers_that_do_not_answer(opened):
    reason, message = refused(opened, "nats://127.0.0.1:1?replicas=1", UnavailableError, timeout=QUICKLY)
    assert reason == "LOG_UNAVAILABLE"
    assert "127.0.0.1:1" in message


def test_more_replicas_than_servers(opened, server, cluster, prefix):
    reason, message = refused(opened, server.url(replicas=3, prefix=prefix, max_bytes="50M"))
    assert reason == "LOG_REPLICAS"
    assert "?replicas=1" in message
    reason, message = refused(opened, cluster.url(replicas=5, prefix=prefix, max_bytes="50M"), timeout=QUICKLY)
    assert reason == "LOG_REPLICAS"
    assert "cluster {" in message


def test_a_stream_with_another_configuration(opened, server, prefix):
    system = opened(server)
    connection = system.log._connection

    async def alter():
        info = await connection.jetstream.stream_info(f"{prefix}_LOG_0")
        await connection.jetstream.update_stream(info.config, discard="old", max_msgs=10)

    connection.call(alter())
    reason, message = refused(opened, server.url(prefix=prefix))
    assert reason == "LOG_CONFIGURATION"
    assert "discard is old and should be new" in message
    assert "max_msgs is 10 and should be -1" in message


def test_a_size_that_differs_from_the_streams(opened, server, prefix):
    opened(server)
    assert opened(server, url=server.url(prefix=prefix)).log.room() == 50 << 20
    reason, message = refused(opened, server.url(prefix=prefix, max_bytes="60M"))
    assert reason == "LOG_CONFIGURATION"
    assert f"max_bytes is {50 << 20} and should be {60 << 20}" in message


def test_a_log_that_is_larger_than_the_servers_storage(opened, server, prefix):
    reason, message = refused(opened, server.url(prefix=prefix, max_bytes="5T"))
    assert reason == "LOG_STORAGE"
    assert "max_file_store" in message


def test_servers_that_sync_later(opened, servers, tmp_path):
    lazy = servers(nats_server(tmp_path, sync="2m"))
    reason, message = refused(opened, lazy.url(max_bytes="50M"))
    assert reason == "LOG_NOT_SYNCED"
    assert "single" in message
    assert "sync_interval: always" in message
    opened(lazy, url=lazy.url(fsync="trust", prefix="TRUSTED", max_bytes="50M"))


def test_servers_whose_monitoring_does_not_answer(opened, server, prefix):
    reason, message = refused(opened, server.url(prefix=prefix, max_bytes="50M", monitor="127.0.0.1:1"))
    assert reason == "LOG_NOT_SYNCED"
    assert "http: 0.0.0.0:8222" in message
    assert "127.0.0.1:1" in message


def test_each_server_of_a_cluster_is_checked(opened, cluster, prefix):
    some = ",".join(server.monitor for server in cluster.servers[:2])
    reason, message = refused(opened, cluster.url(prefix=prefix, max_bytes="50M", monitor=some))
    assert reason == "LOG_NOT_SYNCED"
    assert "nats-3" in message
    assert "nats-1" not in message


def test_a_server_that_is_away(opened):
    waits, away = [], "nats://127.0.0.1:1"
    refused(opened, away, UnavailableError, timeout=QUICKLY, on_wait=waits.append)
    assert waits[0].startswith("waiting for a server of the log at 127.0.0.1:1: ")


def test_servers_without_jetstream(opened, servers, tmp_path):
    plain = servers(nats_server(tmp_path, jetstream=False))
    reason, message = refused(opened, plain.url(), timeout=QUICKLY)
    assert reason == "LOG_JETSTREAM_DISABLED"
    assert "jetstream {" in message


def test_a_cluster_without_a_quorum(opened, servers, tmp_path, capsys):
    cluster, waits = servers(nats_cluster(tmp_path, start=1)), []
    reason, message = refused(opened, cluster.url(), UnavailableError, timeout=QUICKLY, on_wait=waits.append)
    assert waits[-1].startswith("waiting for a quorum of the log's servers: ")
    assert reason == "LOG_UNAVAILABLE"
    assert "more than half of the servers" in message
    assert "waiting for a quorum" in capsys.readouterr().out


@CAMPAIGN
def test_a_quorum_is_waited_for(opened, servers, tmp_path):
    cluster = servers(nats_cluster(tmp_path, start=1))
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(opened, cluster, timeout=PATIENCE)
        cluster.start()
        assert opening.result(PATIENCE).log.tail() is None


def test_an_encrypted_connection(opened, servers, tmp_path):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    server = servers(nats_server(tmp_path, extra=f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}'))
    url = server.url(max_bytes="50M").replace("nats://", "tls://")
    log = opened(None, url=url, ca_file=authority.ca_file).log
    assert log.append(0, "batch-1", b"data") == 1
    reason, message = refused(opened, url, UnavailableError, timeout=QUICKLY)
    assert reason == "LOG_UNAVAILABLE"
    assert "certificate verify failed" in message
