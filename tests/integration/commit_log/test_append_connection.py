"""Appends over the connection that is for appends alone, once there is one: what it leaves open is settled."""

import threading

import pytest
from support.certificates import Authority
from support.nats_servers import nats_server
from support.patience import PATIENCE, wait_until

from flowhook.errors import ExhaustedError
from router.storage.commit_log.interface import AppendAbandonedError, FencedError, LogReplacedError
from router.storage.commit_log.jetstream import append_connection
from router.storage.commit_log.jetstream import log as log_module

from .test_append import in_background, positions


@pytest.fixture
def system(opened, server, relay, prefix):
    """A log with one record, which is reached through the relay; the next append takes the connection of its own."""
    url = server.url(prefix=prefix, max_bytes="50M").replace(server.address, relay.address)
    system = opened(server, url=url)
    system.log.append(0, "first", b"data")
    wait_until(lambda: system.log._append_connection.ready, "appends have a connection of their own")
    return system


def test_an_append_does_not_use_the_shared_connection(system):
    before = system._connection.client.stats["out_msgs"]
    assert [system.log.append(number, f"batch-{number}", b"data") for number in range(1, 20)] == list(range(2, 21))
    assert system._connection.client.stats["out_msgs"] - before < 19  # those that ask for the state of the log
    assert positions(system.log) == list(range(1, 21))


def test_a_large_record_is_appended(system):
    data = bytes(range(256)) * 3072
    assert system.log.append(1, "large", data) == 2
    assert next(system.log.read(1)).data == data


def test_an_append_whose_answer_is_lost_is_in_once(opened, server, relay, system):
    relay.lose_answers = True
    appending = in_background(system.log.append, 1, "batch-2", b"data")
    assert next(opened(server).log.read(1, wait_seconds=PATIENCE)).batch_id == "batch-2"
    relay.cut()
    assert appending.result(PATIENCE) == 2
    assert positions(system.log) == [1, 2]


def test_an_append_whose_request_is_lost_is_sent_again(relay, system):
    relay.lose_requests = True
    appending = in_background(system.log.append, 1, "batch-2", b"data")
    wait_until(lambda: b"batch-2" in relay.lost, "the request is lost")
    relay.cut()
    assert appending.result(PATIENCE) == 2


def test_an_append_after_the_connection_has_ended_succeeds(relay, system):
    relay.cut()
    assert system.log.append(1, "batch-2", b"data") == 2
    wait_until(lambda: system.log._append_connection.ready, "appends have a connection of their own")
    assert system.log.append(2, "batch-3", b"data") == 3


def test_an_append_loses_to_another_writer(opened, server, system):
    opened(server).log.append(1, "another", b"data")
    with pytest.raises(FencedError):
        system.log.append(1, "batch-2", b"data")
    assert positions(system.log) == [1, 2]


def test_an_append_without_an_answer_is_given_up_when_it_shall_stop(relay, system):
    relay.lose_answers = True
    stop = threading.Event()
    stop.set()
    with pytest.raises(AppendAbandonedError):
        system.log.append(1, "batch-2", b"data", stop=stop)


def test_an_append_in_progress_fails_when_the_log_is_closed(opened, server, relay, system):
    relay.lose_answers = True
    appending = in_background(system.log.append, 1, "batch-2", b"data")
    assert next(opened(server).log.read(1, wait_seconds=PATIENCE)).batch_id == "batch-2"
    system.close()
    with pytest.raises(AppendAbandonedError):
        appending.result(PATIENCE)


def test_the_connection_is_encrypted_as_the_shared_one_is(opened, servers, tmp_path):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    server = servers(nats_server(tmp_path, extra=f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}'))
    url = server.url(max_bytes="50M").replace("nats://", "tls://")
    log = opened(None, url=url, ca_file=authority.ca_file).log
    log.append(0, "batch-1", b"data")
    wait_until(lambda: log._append_connection.ready, "appends have a connection of their own")
    assert [log.append(1, "batch-2", bytes(500_000)), log.append(2, "batch-3", b"data")] == [2, 3]
    assert log._append_connection._link


def test_a_full_log_refuses_at_once(opened, server, prefix):
    log = opened(server, url=server.url(prefix=prefix, max_bytes="64K")).log
    log.append(0, "batch-1", bytes(40_000))
    wait_until(lambda: log._append_connection.ready, "appends have a connection of their own")
    with pytest.raises(ExhaustedError):
        log.append(1, "batch-2", bytes(40_000))
    log.purge(1)
    assert log.append(1, "batch-2", bytes(40_000)) == 2


def test_a_log_that_was_deleted_is_noticed(system, prefix):
    connection = system._connection
    connection.call(connection.jetstream.delete_stream(f"{prefix}_LOG_0"))
    with pytest.raises(LogReplacedError):
        system.log.append(1, "batch-2", b"data")


def test_the_server_that_leads_the_log_is_the_one_connected_to(opened, cluster):
    log = opened(cluster).log
    log.append(0, "batch-1", b"data")
    wait_until(lambda: log._append_connection.ready, "appends have a connection of their own")
    (leader,) = [server.name for server in log.status().servers if server.leader]
    link = log._append_connection._next or log._append_connection._link
    assert link.server == leader


def test_a_connection_that_was_not_used_for_long_is_replaced(system, monkeypatch):
    system.log.append(1, "batch-2", b"data")
    used = system.log._append_connection._link
    monkeypatch.setattr(append_connection, "IDLE_SECONDS", 0.0)
    system._connection.call(system.log._look())
    monkeypatch.undo()
    assert system.log.append(2, "batch-3", b"data") == 3
    assert system.log._append_connection._link is not used


def test_records_are_announced_while_another_router_waits_for_them(opened, server):
    owner, standby = opened(server).log, opened(server).log
    owner.append(0, "batch-1", b"data")
    assert owner._announce_until == 0.0
    waiting = in_background(lambda: next(standby.read(1, wait_seconds=PATIENCE)))
    wait_until(lambda: owner._announce_until > 0.0, "announcements are asked for")
    owner.append(1, "batch-2", b"data")
    assert waiting.result(PATIENCE).position == 2
    wait_until(lambda: standby._announced == 2, "the record is announced")


def test_a_router_that_reads_no_more_hears_no_announcements(opened, server, monkeypatch):
    system = opened(server)
    assert list(system.log.read(0, wait_seconds=0.01)) == []
    assert system.log._listens
    monkeypatch.setattr(log_module, "ANNOUNCE_SECONDS", 0.0)

    def listens_no_more():
        system._connection.call(system.log._look())  # does nothing if the server's answer comes late
        return not system.log._listens

    wait_until(listens_no_more, "announcements stop")
    assert list(system.log.read(0, wait_seconds=0.01)) == []


def test_the_url_turns_the_connection_off(opened, server, prefix):
    log = opened(server, url=server.url(prefix=prefix, max_bytes="50M", appends="shared")).log
    assert [log.append(number, f"batch-{number}", b"data") for number in range(5)] == list(range(1, 6))
    assert log._connection.client.stats["out_msgs"] >= 5
    assert not log._append_connection.ready
