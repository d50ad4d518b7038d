"""The replica of the storage suites sees a difference, so that its silence means something."""

import pytest
from support.replica import Replica

from router.storage.schema import connect_writer


@pytest.fixture
def replicated(path):
    path.parent.mkdir()
    connection, replica = connect_writer(path), Replica()
    yield connection, replica
    connection.close()


def transact(connection, replica, *statements, committed=True):
    connection.execute("BEGIN IMMEDIATE")
    replica.begin(connection)
    for statement in statements:
        connection.execute(statement)
    replica.append()
    if committed:
        connection.execute("COMMIT")
    else:
        connection.execute("ROLLBACK")
        replica.roll_back()


def test_equal_databases_pass(path, replicated):
    connection, replica = replicated
    transact(connection, replica, "INSERT INTO counter VALUES ('a', 1)")
    transact(connection, replica, "UPDATE counter SET value = 2")
    transact(connection, replica, "INSERT INTO counter VALUES ('b', 1)", committed=False)
    replica.check(path)


@pytest.mark.parametrize(
    "unseen", ["UPDATE counter SET value = 2", "INSERT INTO counter VALUES ('b', 1)", "DELETE FROM counter"]
)
def test_a_change_that_no_session_saw_is_found(path, replicated, unseen):
    connection, replica = replicated
    transact(connection, replica, "INSERT INTO counter VALUES ('a', 1)")
    connection.execute(unseen)
    with pytest.raises(AssertionError, match="counter"):
        replica.check(path)


def test_a_change_that_does_not_fit_is_a_conflict(replicated):
    connection, replica = replicated
    transact(connection, replica, "INSERT INTO counter VALUES ('a', 1)")
    transact(connection, replica)
    connection.execute("INSERT INTO counter VALUES ('b', 1)")
    transact(connection, replica, "UPDATE counter SET value = 2 WHERE name = 'b'")
    with pytest.raises(AssertionError, match="NOTFOUND"):
        transact(connection, replica)


def test_a_table_without_a_primary_key_is_refused(path, replicated):
    connection, replica = replicated
    transact(connection, replica)
    connection.execute("CREATE TABLE keyless (a INTEGER) STRICT")
    with pytest.raises(AssertionError, match="keyless has no primary key"):
        replica.check(path)
