"""The owner's transactions as records: in order, in parts, and never again after a doubt."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.fake_log import FakeLog, Fault
from support.patience import PATIENCE, wait_until

from flowhook.errors import UnavailableError
from router.storage.commit_log.interface import FencedError
from router.storage.replicated import follower as follower_module
from router.storage.replicated.batch import decode
from router.storage.replicated.follower import Follower, LogDamagedError, ViewDivergedError
from router.storage.replicated.recorder import LogRecorder
from router.storage.replicated.view import View


@pytest.fixture
def log():
    return FakeLog(max_record_bytes=1024)


class Owner:
    """A view with a recorder, and whether it was lost."""

    def __init__(self, log, directory, position=None):
        self.view = View(directory)
        directory.mkdir(exist_ok=True)
        self.losses = []
        position = position or self.view.create(log.identity)
        self.recorder = LogRecorder(log, position, lost=self.losses.append, now_ms=lambda: 0)

    def transact(self, statement, *values, commit=True):
        with self.view.connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                self.recorder.begin(connection)
                connection.execute(statement, values)
                self.recorder.append()
                if not commit:
                    raise OSError("the disk failed")  # noqa: TRY301 - as COMMIT would
            except Exception:
                connection.execute("ROLLBACK")
                self.recorder.roll_back()
                raise
            connection.execute("COMMIT")

    def count(self, name, value=1):
        self.transact("INSERT OR REPLACE INTO counter VALUES (?, ?)", name, value)


@pytest.fixture
def owner(log, tmp_path):
    return Owner(log, tmp_path / "owner")


def records(log):
    return [decode(record.data) for record in log.read(0)]


@pytest.fixture
def followed(log, tmp_path):
    """Follow the log with a view of its own, and return the follower."""

    def follow():
        directory = tmp_path / "follower"
        directory.mkdir(exist_ok=True)
        view = View(directory)
        follower = Follower(log, view, view.create(log.identity))
        follower.catch_up(log.tail().position)
        return follower

    return follow


def test_a_transaction_is_one_record_that_names_the_one_before(owner, log):
    owner.count("a")
    owner.count("b")
    first, second = records(log)
    assert (first.number, second.number, first.parts) == (1, 2, 1)
    assert first.previous == b""
    assert second.previous != b""
    assert owner.view.position().position == 2


def test_a_transaction_without_changes_is_no_record(owner, log):
    owner.transact("SELECT 1")
    assert log.tail() is None


def test_rejections_are_not_recorded(owner, log):
    owner.transact("INSERT INTO rejection (id, flow_id, time_ms, reason, content) VALUES ('r', 'f', 1, '', x'')")
    assert log.tail() is None


def test_a_large_transaction_is_cut_into_parts(owner, log, followed):
    owner.transact("INSERT INTO secret VALUES ('a', randomblob(5000), 0)")
    parts = records(log)
    assert len(parts) > 1
    assert [part.part for part in parts] == list(range(len(parts)))
    assert followed().position.position == len(parts)


def test_a_refused_append_ends_the_ownership(owner, log):
    owner.count("a")
    log.faults = [Fault.OTHER_WRITER]
    with pytest.raises(FencedError):
        owner.count("b")
    with pytest.raises(FencedError):
        owner.count("c")
    assert len(owner.losses) == 1
    assert owner.view.position().position == 1


def test_a_transaction_that_is_recorded_but_not_committed_ends_the_ownership(owner, log, followed):
    with pytest.raises(OSError, match="disk"):
        owner.transact("INSERT INTO counter VALUES ('a', 1)", commit=False)
    with pytest.raises(FencedError):
        owner.count("b")
    assert len(owner.losses) == 1
    assert owner.view.position().position == 0
    assert followed().position.position == 1  # which is where the view catches up from


def test_a_full_log_refuses_one_transaction_and_the_next_one_is_recorded(owner, log, followed):
    log.faults = [Fault.NONE, Fault.FULL]  # the second part
    with pytest.raises(UnavailableError) as raised:
        owner.transact("INSERT INTO secret VALUES ('a', randomblob(5000), 0)")
    assert raised.value.reason == "STORAGE_FULL"
    owner.count("b")
    assert not owner.losses
    follower = followed()
    assert follower.position.position == log.tail().position
    with follower._view.connected() as connection:
        assert connection.execute("SELECT count(*) FROM secret").get == 0
        assert connection.execute("SELECT name FROM counter").get == "b"


def test_waiting_for_a_quorum_can_be_abandoned(owner, log):
    log.faults = [Fault.NO_QUORUM_BUT_IN]
    owner.recorder.abandon()
    with pytest.raises(UnavailableError):
        owner.count("a")
    with pytest.raises(FencedError):
        owner.count("b")


@pytest.mark.parametrize("fault", [Fault.REPLACED, Fault.DEFECT_BUT_IN])
def test_whatever_else_makes_an_append_fail_ends_the_ownership(owner, log, fault):
    log.faults = [fault]
    with pytest.raises(FencedError):  # which callers repeat, unlike a conflict or a defect
        owner.count("a")
    with pytest.raises(FencedError):
        owner.count("b")
    assert len(owner.losses) == 1
    assert owner.view.position().position == 0


def test_parts_of_an_owner_that_died_are_void(owner, log, tmp_path, followed):
    owner.count("a")
    log.faults = [Fault.NONE, Fault.OTHER_WRITER]
    log_before = log.tail().position
    with pytest.raises(FencedError):
        owner.transact("INSERT INTO secret VALUES ('a', randomblob(5000), 0)")
    # what FakeLog's other writer appended is no batch: cut it off
    log._records.pop()
    assert log.tail().position == log_before + 1
    successor = followed()
    new = Owner(log, tmp_path / "new", successor.end())
    assert new.recorder.epoch == 2
    new.view.create(log.identity)
    new.count("b")
    assert followed().position.position == log.tail().position


def test_a_record_that_does_not_fit_is_divergence(owner, log, tmp_path):
    owner.count("a")
    owner.transact("UPDATE counter SET value = 2")
    directory = tmp_path / "follower"
    directory.mkdir()
    view = View(directory)
    follower = Follower(log, view, view.create(log.identity))
    follower.catch_up(1)
    with view.connected() as connection:
        connection.execute("DELETE FROM counter")
    with pytest.raises(ViewDivergedError):
        follower.catch_up(2)
    assert view.position().position == 1


@pytest.fixture
def commits(monkeypatch):
    """A number for each transaction that a view commits from now on."""
    found, connected = [], View.connected

    def watched(view):
        connection = connected(view)
        connection.thing.set_commit_hook(lambda: found.append(len(found)) is not None)
        return connection

    monkeypatch.setattr(View, "connected", watched)
    return found


@pytest.fixture
def follower(log, tmp_path):
    """A follower with an empty view."""
    view = View(tmp_path / "follower")
    view.path.parent.mkdir()
    return Follower(log, view, view.create(log.identity))


@pytest.mark.parametrize("most", [follower_module.TRANSACTION_RECORDS, 2])
def test_records_that_are_read_together_are_applied_in_one_transaction(owner, follower, commits, monkeypatch, most):
    monkeypatch.setattr(follower_module, "TRANSACTION_RECORDS", most)
    for name in "abc":
        owner.count(name)
    commits.clear()
    follower.catch_up(3)
    assert len(commits) == (2 if most == 2 else 1)
    assert follower._view.position().position == 3


def test_what_was_applied_before_a_record_that_does_not_fit_remains(owner, follower):
    for name in "abc":
        owner.count(name)
    with follower._view.connected() as connection:
        connection.execute("INSERT INTO counter VALUES ('c', 1)")
    with pytest.raises(ViewDivergedError):
        follower.catch_up(3)
    with follower._view.connected() as connection:
        assert connection.execute("SELECT count(*) FROM counter").get == 3
    assert follower._view.position().position == follower.position.position == 2


def test_a_follower_that_pauses_between_two_reads_stops_at_once(owner, follower, monkeypatch):
    monkeypatch.setattr(follower_module, "PAUSE_SECONDS", 3600)
    owner.count("a")
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follower.follow, stop)
        wait_until(lambda: follower.current, "it does not follow")
        stop.set()
        following.result(PATIENCE)
    assert follower._view.position().position == 1


def test_a_changed_record_is_found_by_the_next_one(owner, log, tmp_path):
    owner.count("a")
    owner.count("b")
    view = View(tmp_path / "follower")
    view.path.parent.mkdir()
    follower = Follower(log, view, view.create(log.identity))
    other = Owner(FakeLog(), tmp_path / "other")
    other.count("z")
    log._records[0] = log._records[0].__class__(1, "x", next(other.recorder._log.read(0)).data)
    with pytest.raises(ViewDivergedError):
        follower.catch_up(2)


def test_void_records_are_passed_over_by_owners_and_followers(owner, log, followed):
    owner.count("a")
    log.forge()
    log.forge()
    owner.count("b")
    assert owner.view.position().position == log.tail().position == 4
    owner.transact("INSERT INTO secret VALUES ('a', randomblob(5000), 0)")
    log.forge()
    follower = followed()
    assert follower.position.position == log.tail().position - 1
    assert (follower.end().position, follower.end().last_hash) == (log.tail().position, owner.view.position().last_hash)
    assert owner.losses == []


def test_an_owner_claims_behind_void_records(owner, log, tmp_path, followed):
    owner.count("a")
    log.forge()
    next_owner = Owner(log, tmp_path / "follower", followed().end())
    next_owner.count("b")
    assert next_owner.view.position().position == 3
    assert followed().position.position == 3
    with pytest.raises(FencedError):
        owner.count("c")


@pytest.mark.parametrize("damaged", [True, False])
def test_a_record_that_others_follow_is_never_passed_over(owner, log, followed, damaged):
    for name in ("a", "b", "c"):
        owner.count(name)
    log.spoil(2, damaged=damaged)
    with pytest.raises(LogDamagedError) as raised:
        followed()
    assert raised.value.position == 2


def test_nobody_claims_behind_a_last_record_that_a_router_may_have_written(owner, log, followed):
    owner.count("a")
    owner.count("b")
    log.spoil(2)
    follower = followed()
    assert follower.position.position == 1
    with pytest.raises(LogDamagedError):
        follower.end()


def test_a_damaged_record_that_the_owner_did_not_write_is_passed_over_once_it_goes_on(owner, log, followed):
    owner.count("a")
    log.forge()
    owner.count("b")
    log.spoil(2)
    assert followed().end().position == 3


def test_a_view_of_another_boot_is_not_used(owner, log, monkeypatch):
    owner.count("a")
    assert owner.view.position() is not None
    monkeypatch.setattr("router.storage.replicated.view.boot_id", lambda: "another")
    assert owner.view.position() is None
