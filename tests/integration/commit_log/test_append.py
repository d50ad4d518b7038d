"""Appends whose answers, requests, servers or stream are lost."""

import math
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from support.cluster_keys import KEYS
from support.nats_servers import nats_server
from support.patience import PATIENCE, wait_until

from flowhook.errors import ExhaustedError, UnavailableError
from router.storage.commit_log.interface import AppendAbandonedError, FencedError, LogReplacedError
from router.storage.commit_log.jetstream import log as log_module
from router.storage.commit_log.jetstream import rebuild_log
from router.storage.commit_log.seals import RecordSeals


def positions(log, after=0):
    return [record.position for record in log.read(after)]


@pytest.fixture
def relayed(opened, server, relay, prefix):
    """A log that is reached through the relay."""
    url = server.url(prefix=prefix, max_bytes="50M").replace(server.address, relay.address)
    return opened(server, url=url).log


def in_background(function, *arguments, **options):
    pool = ThreadPoolExecutor(1)
    future = pool.submit(function, *arguments, **options)
    pool.shutdown(wait=False)
    return future


def test_an_append_whose_answer_is_lost_is_in_once(opened, server, relay, relayed):
    direct = opened(server).log
    relay.lose_answers = True
    appending = in_background(relayed.append, 0, "batch-1", b"data")
    assert next(direct.read(0, wait_seconds=PATIENCE)).batch_id == "batch-1"
    relay.cut()
    assert appending.result(PATIENCE) == 1
    assert positions(direct) == [1]


def test_an_append_whose_request_is_lost_is_sent_again(opened, server, relay, relayed):
    relay.lose_requests = True
    appending = in_background(relayed.append, 0, "batch-1", b"data")
    wait_until(lambda: b"batch-1" in relay.lost, "the request is lost")
    relay.cut()
    assert appending.result(PATIENCE) == 1


def test_an_append_after_the_connection_was_cut_succeeds(relay, relayed):
    relayed.append(0, "batch-1", b"data")
    relay.cut()
    assert relayed.append(1, "batch-2", b"data") == 2
    assert positions(relayed) == [1, 2]


def test_an_append_whose_answer_is_lost_is_found_behind_another_record(opened, server, relay, relayed):
    direct = opened(server).log
    relay.lose_answers = True
    appending = in_background(relayed.append, 0, "batch-1", b"data")
    next(direct.read(0, wait_seconds=PATIENCE))
    direct.append(1, "another", b"data")
    relay.cut()
    assert appending.result(PATIENCE) == 1


def test_an_append_that_was_not_in_loses_to_another_writer(opened, server, relay, relayed):
    direct = opened(server).log
    relay.lose_requests = True
    appending = in_background(relayed.append, 0, "batch-1", b"data")
    wait_until(lambda: b"batch-1" in relay.lost, "the request is lost")
    direct.append(0, "another", b"data")
    relay.cut()
    with pytest.raises(FencedError):
        appending.result(PATIENCE)
    assert positions(direct) == [1]


def test_an_append_without_an_answer_is_given_up_when_it_shall_stop(opened, server, relay, relayed):
    relay.lose_answers = True
    stop = threading.Event()
    appending = in_background(relayed.append, 0, "batch-1", b"data", stop=stop)
    next(opened(server).log.read(0, wait_seconds=PATIENCE))
    stop.set()
    with pytest.raises(AppendAbandonedError):
        appending.result(PATIENCE)


def test_an_append_in_progress_fails_when_the_log_is_closed(opened, server, relay, prefix):
    url = server.url(prefix=prefix, max_bytes="50M").replace(server.address, relay.address)
    system = opened(server, url=url)
    relay.lose_answers = True
    appending = in_background(system.log.append, 0, "batch-1", b"data")
    next(opened(server).log.read(0, wait_seconds=PATIENCE))
    system.close()
    with pytest.raises(AppendAbandonedError):
        appending.result(PATIENCE)
    with pytest.raises(UnavailableError):
        system.log.append(0, "batch-1", b"data")


def test_a_full_log_takes_records_again_after_a_purge(opened, server, prefix):
    log = opened(server, url=server.url(prefix=prefix, max_bytes="64K")).log
    log.append(0, "batch-1", bytes(40_000))
    assert 20_000 < log.room() < 25_536
    with pytest.raises(ExhaustedError) as caught:
        log.append(1, "batch-2", bytes(40_000))
    assert caught.value.reason == "LOG_FULL"
    assert positions(log) == [1]
    log.purge(1)
    assert log.room() == 65_536
    assert log.append(1, "batch-2", bytes(40_000)) == 2


def test_a_log_that_was_deleted_is_not_mistaken_for_another_state_of_it(opened, server, prefix):
    system = opened(server)
    log = system.log
    log.append(0, "batch-1", b"data")
    connection = system.log._connection
    connection.call(connection.jetstream.delete_stream(f"{prefix}_LOG_0"))
    for use in (lambda: log.append(1, "batch-2", b"data"), log.tail, lambda: positions(log), lambda: log.purge(1)):
        with pytest.raises(LogReplacedError):
            use()


def test_a_log_that_was_created_again_takes_nothing_of_those_who_knew_the_former(opened, server, prefix):
    former = opened(server).log
    identity = rebuild_log(server.url(prefix=prefix, max_bytes="50M"))
    current = opened(server).log
    assert current.identity == identity != former.identity
    uses = [
        lambda: former.append(0, "batch-1", b"data"),  # both logs are empty
        former.tail,
        lambda: positions(former),
        lambda: former.purge(1),
        former.status,
    ]
    for use in uses:
        with pytest.raises(LogReplacedError):
            use()
    assert current.tail() is None


def test_a_log_that_lost_acknowledged_records_is_another_one(opened, servers, tmp_path):
    server = servers(nats_server(tmp_path))
    log = opened(server, behind_seconds=0.2).log
    log.append(0, "batch-1", b"data")
    server.stop()
    shutil.copytree(server.store, tmp_path / "earlier")
    server.start()
    log.append(1, "batch-2", b"data")
    server.kill()
    shutil.rmtree(server.store)
    (tmp_path / "earlier").rename(server.store)
    server.start()
    for use in (lambda: log.append(2, "batch-3", b"data"), log.tail, lambda: positions(log, 2)):
        with pytest.raises(LogReplacedError):
            use()


def test_a_record_whose_id_was_copied_on_its_way_is_stored_all_the_same(opened, server, prefix):
    """A server takes it for a duplicate of what somebody else has stored under that ID, and acknowledges it."""
    system, other = opened(server), opened(server)
    assert system.log.append(0, "1:a:1:0", b"first") == 1
    for batch_id, expected in (("1:a:2:0", 1), ("1:a:3:0", 3)):
        message_id, _ = RecordSeals(KEYS, system.log.identity).seal(expected + 1, batch_id, b"")
        publish = system.log._connection.jetstream.publish
        subject = system.log._stream.subject
        system.log._connection.call(publish(subject, b"in its place", headers={"Nats-Msg-Id": message_id}))
        assert system.log.append(expected, batch_id, b"true") == expected + 2
    assert [(record.data, record.void, record.damaged) for record in other.log.read(0)] == [
        (b"first", False, False),
        (b"", True, True),
        (b"true", False, False),
        (b"", True, True),
        (b"true", False, False),
    ]
    with pytest.raises(FencedError):
        other.log.append(1, "2:b:1:0", b"claim")
    assert other.log.append(5, "2:b:1:0", b"claim") == 6


@pytest.mark.parametrize("data", [b"[]", b'{"error": "no"}', b"1", b"{"])
def test_an_answer_that_no_server_gives_leaves_the_outcome_open(opened, server, monkeypatch, data):
    log = opened(server).log
    request, answers = Client.request, [data]

    async def answered_by_another(client, *arguments, **options):
        reply = await request(client, *arguments, **options)
        return Msg(client, data=answers.pop()) if answers else reply

    monkeypatch.setattr(Client, "request", answered_by_another)
    assert log.append(0, "1:a:1:0", b"record") == 1
    assert answers == []
    assert positions(log) == [1]


def test_records_are_announced_while_another_router_waits_for_them(opened, server):
    owner, standby = opened(server).log, opened(server).log
    owner.append(0, "batch-1", b"data")
    assert owner._announce_until == 0.0
    waiting = in_background(lambda: next(standby.read(1, wait_seconds=PATIENCE)))
    wait_until(lambda: owner._announce_until > 0.0, "announcements are asked for")
    owner.append(1, "batch-2", b"data")
    assert waiting.result(PATIENCE).position == 2
    wait_until(lambda: standby._announced == 2, "the record is announced")


@pytest.mark.parametrize(("pause", "last"), [(0.1, b"3"), (3600.0, b"1")])
def test_records_that_follow_one_another_are_announced_together(opened, server, monkeypatch, pause, last):
    monkeypatch.setattr(log_module, "ANNOUNCE_PAUSE_SECONDS", pause)
    owner, said = opened(server).log, []
    connection = owner._connection

    async def hear(message):
        said.append(message.data)

    connection.call(connection.subscribe(owner._announcements, hear))
    owner._announce_until = math.inf
    owner.append(0, "batch-1", b"data")
    wait_until(lambda: said == [b"1"], "the first record is announced")
    owner.append(1, "batch-2", b"data")
    owner.append(2, "batch-3", b"data")
    wait_until(lambda: said[-1] == last, "the last record is announced")
    connection.call(connection.client.publish(owner._announcements, b"end"))
    wait_until(lambda: said[-1] == b"end", "all that was said is heard")
    assert said[-2] == last


def test_a_router_that_reads_no_more_hears_no_announcements(opened, server, monkeypatch):
    system = opened(server)
    assert list(system.log.read(0, wait_seconds=0.01)) == []
    assert system.log._listens
    monkeypatch.setattr(log_module, "ANNOUNCE_SECONDS", 0.0)

    def listens_no_more():
        system.log._connection.call(system.log._look())  # does nothing if the server's answer comes late
        return not system.log._listens

    wait_until(listens_no_more, "announcements stop")
    assert list(system.log.read(0, wait_seconds=0.01)) == []


def test_announcements_of_what_does_not_exist_do_not_keep_readers_awake(opened, server, prefix):
    system = opened(server)
    system.log.append(0, "1:a:1:0", b"first")
    reading = in_background(lambda: list(system.log.read(1, wait_seconds=PATIENCE)))
    wait_until(lambda: system.log._listens, "it does not listen")
    for number in (b"9" * 20, b"9" * 5000, b"x", b""):
        system.log._connection.call(system.log._connection.client.publish(system.log._announcements, number))
    wait_until(lambda: system.log._announced == 1, "it takes what does not exist for announced")
    system.log.append(1, "1:a:2:0", b"second")
    assert [record.position for record in reading.result(PATIENCE)] == [2]


PAUSED_WRITER = """
import sys
from router.storage.commit_log.interface import FencedError
from router.storage.commit_log.jetstream import connect
from router.storage.commit_log.seals import ClusterKeys
log = connect(sys.argv[1], ClusterKeys(b"k" * 32), router="paused").log
position = 0
try:
    while True:
        position = log.append(position, f"paused:{position}", b"data")
        print(position, flush=True)
except FencedError:
    print("fenced", position, flush=True)
"""


def test_a_writer_that_was_paused_is_refused(opened, server, prefix):
    url = server.url(prefix=prefix, max_bytes="50M")
    writer = subprocess.Popen([sys.executable, "-c", PAUSED_WRITER, url], stdout=subprocess.PIPE, text=True)
    with writer:
        while writer.stdout.readline() != "3\n":
            assert writer.poll() is None
        writer.send_signal(signal.SIGSTOP)
        log = opened(server).log
        # what it had sent before it stood still may come first
        claimed = _claim(log)
        writer.send_signal(signal.SIGCONT)
        output = writer.stdout.read().split("\n")
    assert output[-2] == f"fenced {claimed - 1}"
    assert [record.batch_id for record in log.read(claimed - 1)] == ["claim"]


def _claim(log):
    while True:
        try:
            return log.append(log.tail().position, "claim", b"data")
        except FencedError:
            continue
