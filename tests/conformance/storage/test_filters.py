"""Each condition on executions finds exactly those that meet it."""

import pytest

from flowhook import limits
from flowhook.model import Status, WorkflowError
from flowhook.model.execution_filter import ALL, ExecutionFilter
from flowhook.model.executions import Attempt, AttemptEnd
from router.storage import execution_list
from router.storage.model import AttemptInterrupted, Ended, Started

DAY_MS = 24 * 3600 * 1000
TIMEOUT = WorkflowError(
    "https://open-workflow-specification.org/spec/1.0.0/errors/timeout", 408, "Timed out", "/do/0/charge", "a'b"
)
OWN = WorkflowError("https://example.com/errors/declined*", 402, "Declined", "/do/1/charge")


class EarlierError(WorkflowError):
    """An error as versions wrote it that knew the standard by its earlier name."""

    def as_dict(self, spelling="serverless-workflow"):
        return super().as_dict(spelling)


@pytest.fixture
async def days(cluster, new_event):
    """The IDs of executions received a day apart: one that completed, two that faulted, a cancelled and a new one."""
    events = [new_event("shop" if day % 2 else "bank", receive_time_ms=day * DAY_MS) for day in range(5)]
    seqs = await cluster.append(*events)
    lost = [(seqs[0], 1), (seqs[2], 1), (seqs[2], 2)]
    await cluster.state.write(
        [
            *(AttemptInterrupted(seq, Attempt(number, "r1", 1, 2, AttemptEnd.RUNNER_LOST)) for seq, number in lost),
            Ended(seqs[0], Status.COMPLETED, 9, 2),
            Ended(seqs[1], Status.FAULTED, 9, 1, error=TIMEOUT),
            Ended(seqs[2], Status.FAULTED, 9, 3, error=OWN),
            Ended(seqs[3], Status.CANCELLED, 9, 1),
            Started(seqs[4], 1),
        ]
    )
    return [event.event_id for event in events]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ALL, [4, 3, 2, 1, 0]),
        (ExecutionFilter(receive_from_ms=2 * DAY_MS), [4, 3, 2]),
        (ExecutionFilter(receive_from_ms=2 * DAY_MS + 1), [4, 3]),
        (ExecutionFilter(receive_until_ms=2 * DAY_MS), [1, 0]),
        (ExecutionFilter(receive_from_ms=DAY_MS, receive_until_ms=3 * DAY_MS, flow_id="shop"), [1]),
        (ExecutionFilter(receive_from_ms=9 * DAY_MS), []),
        (ExecutionFilter(receive_until_ms=0), []),
        (ExecutionFilter(error_type="timeout"), [1]),
        (ExecutionFilter(error_type=TIMEOUT.type), [1]),
        (ExecutionFilter(error_type="errors/timeout"), []),
        (ExecutionFilter(error_type="declined*"), [2]),
        (ExecutionFilter(error_type="*"), []),
        (ExecutionFilter(error_task="/do/0/charge"), [1]),
        (ExecutionFilter(error_task=""), []),
        (ExecutionFilter(error_status=402), [2]),
        (ExecutionFilter(error_title="Declined", flow_id="bank"), [2]),
        (ExecutionFilter(error_title="Declined", flow_id="shop"), []),
        (ExecutionFilter(error_status=402, statuses=(Status.COMPLETED,)), []),
        (ExecutionFilter(error_status=402, statuses=(Status.COMPLETED, Status.FAULTED)), [2]),
        (ExecutionFilter(error_status=402, unresolved=True), [2]),
        # the attempts of the one that has not ended may be stored later
        (ExecutionFilter(min_attempts=2), [4, 2, 0]),
        (ExecutionFilter(min_attempts=2, flow_id="bank"), [4, 2, 0]),
        (ExecutionFilter(min_attempts=2, statuses=(Status.COMPLETED, Status.FAULTED)), [2, 0]),
        (ExecutionFilter(min_attempts=2, statuses=(Status.RUNNING, Status.COMPLETED)), [4, 0]),
        (ExecutionFilter(min_attempts=3, unresolved=True), [2]),
        (ExecutionFilter(min_attempts=3), [4, 2]),
        (ExecutionFilter(min_attempts=3, statuses=(Status.FAULTED,)), [2]),
        (ExecutionFilter(flow_id="bank", statuses=(Status.RUNNING,)), [4]),
        (ExecutionFilter(flow_id="shop", statuses=(Status.RUNNING,)), []),
        (ExecutionFilter(attributes=(("order", "1"),)), []),
    ],
    ids=str,
)
async def test_a_condition_finds_what_meets_it(cluster, days, wanted, expected):
    found = await cluster.state.list_executions(wanted)
    assert ([days.index(record.id) for record in found.records], found.next_seq) == (expected, None)
    counted = len(expected) - (wanted.min_attempts > 1 and 4 in expected)  # counts go by what is stored
    assert await cluster.state.count_executions(wanted, limit=9) == (counted, False)


async def test_a_count_ends_at_its_limit_or_when_its_time_is_over(cluster, days, monkeypatch):
    assert await cluster.state.count_executions(limit=5) == (5, False)
    assert await cluster.state.count_executions(limit=4) == (4, True)
    monkeypatch.setattr(execution_list, "FIRST_WINDOW", 2)
    monkeypatch.setattr(execution_list, "COUNT_SECONDS", -1)
    assert await cluster.state.count_executions(limit=9) == (2, True)


async def test_an_execution_is_found_by_its_time_although_the_clocks_of_senders_differ(cluster, new_event):
    times = [100 * DAY_MS + minute * 60_000 for minute in (5, 0, 30, 10, 45, 20, 1, 59, 7)] * 10
    times[40] = 0
    times[50] = 999 * DAY_MS
    await cluster.append(*(new_event(receive_time_ms=time_ms) for time_ms in times))
    wanted = ExecutionFilter(receive_from_ms=100 * DAY_MS, receive_until_ms=100 * DAY_MS + 10 * 60_000)
    found = await cluster.state.list_executions(wanted)
    expected = [at for at in reversed(times) if wanted.receive_from_ms <= at < wanted.receive_until_ms]
    assert [record.receive_time_ms for record in found.records] == expected


async def test_a_list_whose_time_is_over_says_where_it_continues(cluster, new_event, monkeypatch):
    seqs = await cluster.append(*(new_event() for _ in range(10)))
    monkeypatch.setattr(execution_list, "FIRST_WINDOW", 4)
    monkeypatch.setattr(execution_list, "SCAN_SECONDS", 0)
    wanted = ExecutionFilter(statuses=(Status.FAULTED,))
    pages = [await cluster.state.list_executions(wanted)]
    while pages[-1].next_seq is not None:
        pages.append(await cluster.state.list_executions(wanted, before_seq=pages[-1].next_seq))
    assert [page.records for page in pages] == [[]] * len(pages)
    assert [page.next_seq for page in pages] == [seqs[-4], seqs[-8], None]


async def search(cluster, *attributes, **conditions):
    found = await cluster.state.list_executions(ExecutionFilter(attributes=attributes, **conditions))
    return [record.seq for record in found.records]


async def test_executions_are_found_by_all_of_their_attributes(cluster, new_event):
    north, south = ("region", "north"), ("region", "south")
    seqs = await cluster.append(
        new_event("shop", attributes=(("order", "1"), north)),
        new_event("shop", attributes=(("order", "2"), north)),
        new_event("bank", attributes=(("order", "2"), south)),
        new_event("shop"),
    )
    await cluster.end(seqs[1])
    await cluster.restart()
    assert await search(cluster, ("order", "2")) == [seqs[2], seqs[1]]
    assert await search(cluster, ("order", "2"), flow_id="bank") == [seqs[2]]
    assert await search(cluster, ("order", "2"), north) == [seqs[1]]
    assert await search(cluster, north, ("order", "2")) == [seqs[1]]
    assert await search(cluster, north, statuses=(Status.PENDING,)) == [seqs[0]]
    assert await search(cluster, north, receive_from_ms=2**50) == []
    for nothing in (("order", "3"), ("Order", "2"), ("region", "2")):
        assert await search(cluster, nothing) == []
    assert (await cluster.state.content(seqs[0])).attributes == (("order", "1"), north)
    assert (await cluster.state.content(seqs[3])).attributes == ()


async def test_an_attribute_may_be_any_text(cluster, new_event):
    for value in ("a\0b", "'; DROP TABLE execution; --", "é" * 200, "%_*?"):
        [seq] = await cluster.append(new_event(attributes=(("note", value),)))
        assert await search(cluster, ("note", value)) == [seq]
    assert await search(cluster, ("note", "a")) == []


async def test_a_replay_has_the_attributes_of_what_it_replays_and_both_expire(cluster, new_event):
    original = new_event(attributes=(("order", "1"),))
    [seq] = await cluster.append(original)
    await cluster.end(seq)
    [again] = await cluster.append(new_event(replay_of=original.event_id))
    await cluster.end(again, end_time_ms=9_000)
    [last] = await cluster.append(new_event(replay_of=original.event_id, attributes=(("order", "2"), ("more", "x"))))
    assert await search(cluster, ("order", "1")) == [again, seq]
    assert (await cluster.state.content(last)).attributes == (("more", "x"), ("order", "2"))
    assert await cluster.state.expire(ended_before_ms=5_000) == 1
    assert await search(cluster, ("order", "1")) == [again]


async def test_a_replay_with_another_body_has_its_own_attributes_only(cluster, new_event):
    original = new_event(attributes=(("order", "1"), ("region", "north")))
    await cluster.append(original)
    edited = new_event(replay_of=original.event_id, attributes=(("order", "2"),), edited=True)
    [seq] = await cluster.append(edited)
    assert (await cluster.state.content(seq)).attributes == (("order", "2"),)
    [again] = await cluster.append(new_event(replay_of=edited.event_id))
    assert (await cluster.state.content(again)).attributes == (("order", "2"),)


async def test_a_duplicate_leaves_no_attributes(cluster, new_event):
    first, second = (new_event(dedupe_key="k", dedupe_until_ms=2**45, attributes=(("order", o),)) for o in "12")
    await cluster.append(first, second)
    assert await search(cluster, ("order", "2")) == []


async def test_payloads_are_read_in_order_up_to_a_number_of_bytes(cluster, new_event):
    large = b"x" * (limits.INLINE_BODY_BYTES + 1)
    seqs = await cluster.append(*(new_event(payload=payload) for payload in (b"first", large, b"third", b"last")))
    assert await cluster.state.payloads(seqs[::-1], most_bytes=9) == {
        seqs[3]: b"last",
        seqs[2]: b"third",
        seqs[1]: None,
    }
    assert await cluster.state.payloads(seqs[::-1], most_bytes=1) == {seqs[3]: b"last"}
    assert await cluster.state.payloads([*seqs, 99], most_bytes=99) == {
        seqs[0]: b"first",
        seqs[1]: None,
        seqs[2]: b"third",
        seqs[3]: b"last",
        99: None,
    }


@pytest.mark.parametrize("base", ["open-workflow-specification.org", "serverlessworkflow.io"])
async def test_errors_of_the_standard_are_found_by_either_name_of_their_type(cluster, new_event, base):
    events = [new_event("shop", receive_time_ms=day) for day in range(3)]
    seqs = await cluster.append(*events)
    errors = (EarlierError(TIMEOUT.type, 408, "T"), TIMEOUT, OWN)
    await cluster.state.write(
        [Ended(seq, Status.FAULTED, 9, 1, error=error) for seq, error in zip(seqs, errors, strict=True)]
    )
    wanted = ExecutionFilter(error_type=f"https://{base}/spec/1.0.0/errors/timeout")
    found = await cluster.state.list_executions(wanted)
    assert [events[0].event_id, events[1].event_id] == sorted(record.id for record in found.records)
    assert {record.error.type for record in found.records} == {TIMEOUT.type}
    assert await cluster.state.count_executions(wanted, limit=9) == (2, False)
