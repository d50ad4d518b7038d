"""Views are compared with a replay of the log up to where each of them is."""

import pytest
from support.fake_log import FakeLog

from chaos.replication import examine
from router.storage.replicated.follower import Follower
from router.storage.replicated.recorder import LogRecorder
from router.storage.replicated.view import View


@pytest.fixture
def log():
    return FakeLog()


def count(view, recorder, name):
    """Store a row in an owner's view, and in the log."""
    with view.connected() as connection:
        connection.execute("BEGIN IMMEDIATE")
        recorder.begin(connection)
        connection.execute("INSERT INTO counter VALUES (?, 1)", (name,))
        recorder.append()
        connection.execute("COMMIT")


@pytest.fixture
def views(log, tmp_path):
    """Return the directories of an owner's view, of one behind it, and of none."""
    directories = {name: tmp_path / name for name in ("owner", "behind", "none")}
    for directory in directories.values():
        directory.mkdir()
    view = View(directories["owner"])
    recorder = LogRecorder(log, view.create(log.identity), lost=pytest.fail, now_ms=lambda: 0)
    count(view, recorder, "a")
    behind = View(directories["behind"])
    Follower(log, behind, behind.create(log.identity)).catch_up(1)
    count(view, recorder, "b")
    return directories


def test_equal_views(log, views):
    findings = examine(log, views)
    assert not any(findings.problems.values())
    assert findings.counts == {"log_records": 2, "log_purged": 0, "log_epochs": 1, "views_compared": 2}


def test_a_view_with_another_row_differs(log, views):
    with View(views["behind"]).connected() as connection:
        connection.execute("UPDATE counter SET value = 2 WHERE name = 'a'")
    [found] = examine(log, views).problems["views_differ"]
    assert found.startswith("behind at 1: counter: 1 rows instead of 1")


def test_a_view_ahead_of_the_log_differs(log, views):
    view = View(views["owner"])
    with view.connected() as connection:
        connection.execute("UPDATE applied SET position = 3")
    assert examine(log, views).problems["views_differ"] == ["owner is at 3, after the end of the log"]


def test_views_are_compared_with_the_one_furthest_behind_if_the_beginning_of_the_log_was_purged(log, views):
    log.purge(1)
    findings = examine(log, views)
    assert not any(findings.problems.values())
    assert findings.counts == {"log_records": 1, "log_purged": 1, "log_epochs": 1, "views_compared": 1}
    with View(views["behind"]).connected() as connection:
        connection.execute("UPDATE counter SET value = 2 WHERE name = 'a'")
    [found] = examine(log, views).problems["views_differ"]
    assert found.startswith("owner at 2: counter: 2 rows instead of 2")
