"""Queries use the index that was made for them, however many executions there are."""

import itertools
from functools import partial

import apsw
import pytest

from flowhook.model import Status
from flowhook.model.execution_filter import ExecutionFilter
from router.storage import activity, changes, erasure, execution_list, expiry, queries, registry, rejections, series
from router.storage.statements import BatchStatement

KINDS = [
    frozenset({Status.PENDING}),
    frozenset({Status.PENDING, Status.RUNNING}),
    frozenset({Status.FAULTED}),
    frozenset({Status.FAULTED, Status.CANCELLED}),
]


@pytest.fixture
def plan(path, storage):
    """The plans of the statements that a query runs."""

    def plans_of(query, *arguments):
        statements = []
        connection = apsw.Connection(str(path))
        connection.exec_trace = lambda _, sql, bindings: statements.append((sql, bindings)) or True
        query(connection, *arguments)
        connection.exec_trace = None
        plans = [row[3] for sql, given in statements for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", given)]
        connection.close()
        return plans

    return plans_of


@pytest.mark.parametrize(("flow_id", "statuses"), list(itertools.product(["", "shop"], [frozenset(), *KINDS])))
async def test_a_list_is_read_in_order_from_an_index(plan, flow_id, statuses):
    wanted = ExecutionFilter(flow_id=flow_id, statuses=tuple(statuses))
    plans = plan(execution_list.read_window, execution_list.as_sql(wanted), 1, 9, 10)
    assert not [step for step in plans if "TEMP B-TREE" in step]
    [main] = [step for step in plans if step.startswith(("SEARCH e ", "SCAN e "))]
    if statuses and Status.FAULTED in statuses:
        assert "execution_unsuccessful_by_flow" in main if flow_id else "execution_unsuccessful" in main
    elif flow_id:  # has few executions, also if those that have not ended are wanted
        assert "execution_by_flow (flow=? AND rowid>? AND rowid<?)" in main
    elif statuses:
        assert "execution_by_end" in main


async def test_unfinished_executions_of_a_flow_with_many_are_found_among_the_unfinished_ones(plan, monkeypatch):
    monkeypatch.setattr(execution_list, "FEW", 0)
    wanted = execution_list.as_sql(ExecutionFilter(flow_id="shop", statuses=(Status.PENDING,)))
    plans = plan(execution_list.read_window, wanted, 1, 9, 10)
    assert any(step.startswith("SEARCH e USING INDEX execution_by_end (end_time_ms=? AND") for step in plans), plans


@pytest.mark.parametrize("conditions", [{}, {"flow_id": "shop"}, {"statuses": (Status.COMPLETED, Status.RUNNING)}])
async def test_what_was_attempted_again_is_found_among_the_interrupted_and_the_unfinished(plan, conditions):
    wanted = execution_list.as_sql(ExecutionFilter(min_attempts=2, **conditions))
    plans = plan(execution_list.read_window, wanted, 1, 9, 9)
    assert "SEARCH a USING PRIMARY KEY (seq>? AND seq<?)" in plans
    assert any("SEARCH e USING INDEX execution_by_" in step for step in plans), plans
    assert not [step for step in plans if "TEMP B-TREE" in step or step.startswith(("SCAN a", "SCAN e"))], plans


async def test_what_runners_need_is_read_by_number_in_one_statement(plan):
    plans = plan(lambda connection: queries.work(connection, None, range(1, 129)))
    assert "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)" in plans
    assert not [step for step in plans if "TEMP B-TREE" in step or step.startswith("SCAN")], plans


async def test_a_sweep_looks_at_some_flows_and_at_what_is_past(plan):
    plans = plan(partial(expiry.expire, ended_before_ms=5, limit=9))
    assert any("(flow_id>? AND flow_id<?)" in step for step in plans if step.startswith("SEARCH f ")), plans
    scanned = {step for step in plans if step.startswith("SCAN")}
    # at most a thousand jobs, the flows that it looks at, and those with a longer retention
    assert scanned <= {"SCAN job", "SCAN (subquery-1)", "SCAN json_each VIRTUAL TABLE INDEX 1:"}, scanned


@pytest.mark.parametrize("flow_id", ["", "shop"])
async def test_what_is_unresolved_is_found_by_a_look_at_an_index_for_each_that_failed(plan, flow_id):
    wanted = execution_list.as_sql(ExecutionFilter(flow_id=flow_id, unresolved=True))
    plans = plan(execution_list.read_window, wanted, 1, 9, 9)
    assert any("replay_by_root (replay_root=? AND rowid>?)" in step for step in plans), plans
    assert not [step for step in plans if "TEMP B-TREE" in step or step.startswith("SCAN r")]


@pytest.mark.parametrize("conditions", [{}, {"flow_id": "shop"}, {"unresolved": True}, {"attributes": (("o", "1"),)}])
async def test_what_an_execution_caused_is_found_without_looking_at_others(plan, conditions):
    wanted = execution_list.as_sql(ExecutionFilter(caused_by="evt_1", **conditions))
    plans = plan(execution_list.read_window, wanted, 1, 9, 9)
    assert any("execution_link_by_cause (caused_by=? AND seq>? AND seq<?)" in step for step in plans), plans
    assert not [step for step in plans if "TEMP B-TREE" in step or step.startswith("SCAN")]


async def test_links_are_found_and_added_by_looks_at_indexes(plan):
    plans = plan(partial(queries.links_of, limit=9), "evt_1")
    assert any("SEARCH c USING" in step and "execution_link_by_cause (caused_by=?)" in step for step in plans), plans
    assert any("SEARCH execution_link USING PRIMARY KEY (seq=?)" in step for step in plans), plans
    assert not [step for step in plans if "TEMP B-TREE" in step or step.startswith("SCAN")]
    plans = plan(changes.insert_emitters, [(1, 2)])
    assert not [
        step for step in plans if "TEMP B-TREE" in step or step.startswith(("SCAN a", "SCAN execution_link", "SCAN c "))
    ]


async def test_unfinished_executions_are_found_without_looking_at_those_that_ended(plan):
    plans = plan(partial(queries.unfinished, after_seq=5, limit=10))
    assert any("execution_by_end (end_time_ms=? AND rowid>?)" in step for step in plans)
    assert not [step for step in plans if "TEMP B-TREE" in step or step.startswith("SCAN")]


async def test_a_compaction_looks_at_nothing_but_what_it_removes(path, storage):
    connection = apsw.Connection(str(path))
    rows = changes.COMPACT_JOURNAL.sql(1)
    plans = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {rows}", (1, 5))]
    connection.close()
    assert any("SEARCH journal USING PRIMARY KEY (seq=? AND position=?)" in step for step in plans), plans
    assert any("SEARCH j USING PRIMARY KEY (seq=? AND position<?)" in step for step in plans), plans


async def test_what_changes_of_unfinished_executions_look_at_is_their_row(path, storage):
    connection = apsw.Connection(str(path))
    statements = [each.sql(1) for each in vars(changes).values() if isinstance(each, BatchStatement)]
    plans = [
        row[3]
        for sql in statements
        for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?"))
        if row[3].startswith("SEARCH execution ")
    ]
    connection.close()
    assert len(plans) > 9
    assert all(step.endswith("USING INTEGER PRIMARY KEY (rowid=?)") for step in plans), plans


async def test_what_is_erased_of_the_list_of_requests_is_found_without_looking_at_others(path, storage):
    connection = apsw.Connection(str(path))
    plans = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {erasure.DELETE_ACCEPTED.sql(1)}", ("evt",))]
    connection.close()
    assert any("rejection_accepted (accepted_id=?)" in step for step in plans), plans


async def test_a_report_of_requests_looks_at_none_of_the_others_but_for_the_oldest(plan):
    plans = plan(rejections._add, [rejections.StoredRejection(0, "rej_1", "shop", 1, b"", "X")])
    assert any(step.startswith("SEARCH rejection") for step in plans)
    assert {before for before, step in itertools.pairwise(plans) if step == "SCAN rejection"} == {"SCALAR SUBQUERY 1"}


async def test_requests_of_an_outcome_are_found_without_reading_the_content_of_others(plan):
    listed = [plan(partial(rejections._page, flow_id=flow, outcome="handshake")) for flow in ("", "shop")]
    assert [len(steps) for steps in listed] == [1, 1]  # in order, without a sort
    for first, *_ in (*listed, plan(partial(rejections._count, limit=10))):
        assert "outcome=?" in first


async def test_flows_that_react_are_found_without_looking_at_others(plan):
    plans = plan(lambda connection: registry.list_flows(connection, after_id="a", limit=9, reacting=True))
    assert any("SEARCH f USING INDEX flow_reacting (flow_id>?)" in step for step in plans), plans
    assert not [step for step in plans if "TEMP B-TREE" in step or step.startswith("SCAN")]


async def test_a_version_is_looked_for_among_the_revisions_of_its_flow_the_latest_first(plan):
    plans = plan(partial(registry.find_revision, within=100), "shop", "1.0.0")
    assert any("SEARCH r USING" in step and "(flow_id=? AND revision>?)" in step for step in plans), plans
    assert not [step for step in plans if "TEMP B-TREE" in step or step.startswith("SCAN")]


async def test_revisions_are_listed_without_looking_at_those_of_other_flows(plan):
    plans = plan(partial(registry.list_revisions, flow_id="shop", before=9, limit=9))
    assert any("SEARCH r USING" in step and "(flow_id=? AND revision<?)" in step for step in plans), plans
    assert not [step for step in plans if "TEMP B-TREE" in step or step.startswith("SCAN")]


async def test_recent_activity_is_found_by_number_and_by_end(plan):
    plans = plan(
        lambda connection: activity.recent(connection, since_ms=5, until_seq=900_000, ended_before_ms=9, limit=10)
    )
    assert not [step for step in plans if step.startswith("SCAN execution")], plans
    assert any("execution_by_end (end_time_ms>? AND end_time_ms<?)" in step for step in plans), plans


async def test_the_latest_event_of_a_flow_is_found_by_one_look_at_an_index(plan):
    plans = plan(activity.latest_receive_times, ["shop"])
    assert not [step for step in plans if "TEMP B-TREE" in step or step.startswith("SCAN")], plans
    plans = plan(activity.latest_requests, ["shop"])
    assert any("SEARCH execution USING INDEX execution_by_flow (flow=?)" in step for step in plans), plans
    assert not [step for step in plans if "TEMP B-TREE" in step or step.startswith(("SCAN execution", "SCAN l"))], plans


@pytest.mark.parametrize(
    "query",
    [
        partial(series._read, flow_id="shop", from_minute=5, until_minute=9, step=1),
        partial(series._age, following="", minute=9),
        partial(series._since, from_minute=5),
        series._first_minute,
    ],
)
async def test_series_are_found_by_flow_resolution_and_time(plan, query):
    plans = plan(query)
    assert not [step for step in plans if "TEMP B-TREE" in step or step.startswith("SCAN")], plans
