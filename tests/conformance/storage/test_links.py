"""Links between executions: what is stored of which one caused which, and how."""

import pytest

from flowhook import limits
from flowhook.events import ids
from flowhook.model import JournalEntry, Status
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.executions import LinkKind
from router.storage.model import Cause, Consumed, Delivered, EventReceived, Parked

PARENT, OTHER = (ids.mint(7, now_ms=now_ms) for now_ms in (10, 20))


@pytest.fixture
def emitted(cluster, new_arrival):
    """Store an event that an execution emitted, and return its number."""

    async def emit(emitter=PARENT, **fields):
        arrival = new_arrival(callback=False, type="paid", emitter=emitter, **fields)
        return (await cluster.log.append_inbound([arrival]))[0].number

    return emit


@pytest.fixture
def receive(cluster):
    """Deliver an arrival to executions that wait for it, as the router does."""

    async def receive(number, *seqs):
        await cluster.state.write([Parked(seq, None, 1) for seq in seqs])
        delivered = [Delivered(seq, JournalEntry("/do/0/wait#0", b"{}"), 1) for seq in seqs]
        await cluster.state.write(
            [*(EventReceived(seq, number) for seq in seqs), *delivered, Consumed(number)],
        )

    return receive


async def links(cluster, execution_id, limit=9):
    """Return the IDs of linked executions with the kinds of the links: of those that caused it, and that it caused."""
    found = await cluster.state.links(execution_id, limit=limit)
    return tuple([(each.id, each.kinds) for each in side] for side in (found.causes, found.caused))


async def caused(cluster, execution_id=PARENT, **conditions):
    found = await cluster.state.list_executions(ExecutionFilter(caused_by=execution_id, **conditions))
    return [record.seq for record in found.records]


async def test_an_execution_is_linked_with_those_that_started_it_both_ways(cluster, new_event):
    child = new_event(causes=(Cause(PARENT, LinkKind.RUN),))
    joined = new_event(causes=(Cause(PARENT, LinkKind.EVENT), Cause(OTHER, LinkKind.EVENT)))
    plain = new_event()
    seqs = await cluster.append(child, plain, joined)
    await cluster.restart()
    run, event = (LinkKind.RUN,), (LinkKind.EVENT,)
    assert await links(cluster, PARENT) == ([], [(joined.event_id, event), (child.event_id, run)])
    assert await links(cluster, PARENT, limit=1) == ([], [(joined.event_id, event)])
    assert await links(cluster, OTHER) == ([], [(joined.event_id, event)])
    assert await links(cluster, child.event_id) == ([(PARENT, run)], [])
    assert await links(cluster, joined.event_id) == ([(OTHER, event), (PARENT, event)], [])
    assert await links(cluster, plain.event_id) == ([], [])
    assert [(await cluster.state.links(PARENT, limit=number)).more_caused for number in (1, 2)] == [True, False]
    assert await caused(cluster) == [seqs[2], seqs[0]]
    assert await caused(cluster, OTHER) == [seqs[2]]
    assert await caused(cluster, plain.event_id) == []
    assert await cluster.state.count_executions(ExecutionFilter(caused_by=PARENT), limit=9) == (2, False)


async def test_caused_executions_are_listed_in_pages_and_by_further_conditions(cluster, new_event):
    cause = (Cause(PARENT, LinkKind.EVENT),)
    events = [
        new_event("shop" if number % 2 else "bank", causes=cause, attributes=(("order", str(number)),))
        for number in range(6)
    ]
    seqs = await cluster.append(*events, new_event("shop", attributes=(("order", "1"),)))
    await cluster.end(*seqs[:2], status=Status.FAULTED)
    wanted = ExecutionFilter(caused_by=PARENT)
    first = await cluster.state.list_executions(wanted, limit=4)
    assert [record.seq for record in first.records] == seqs[5:1:-1]
    rest = await cluster.state.list_executions(wanted, before_seq=first.next_seq, limit=4)
    assert ([record.seq for record in rest.records], rest.next_seq) == (seqs[1::-1], None)
    assert await caused(cluster, flow_id="bank") == seqs[4::-2]
    assert await caused(cluster, statuses=(Status.FAULTED,)) == seqs[1::-1]
    assert await caused(cluster, unresolved=True, flow_id="shop") == [seqs[1]]
    assert await caused(cluster, attributes=(("order", "1"),)) == [seqs[1]]
    walk = await cluster.state.walk_executions(wanted, after_seq=seqs[0], limit=2)
    assert [record.seq for record in walk.records] == seqs[1:3]


async def test_an_execution_that_received_an_event_is_linked_with_its_emitter(cluster, new_event, emitted, receive):
    events = [new_event(), new_event(causes=(Cause(PARENT, LinkKind.EVENT),)), new_event()]
    seqs = await cluster.append(*events)
    await receive(await emitted(), *seqs[:2])
    await cluster.restart()
    await receive(await emitted(OTHER), seqs[0])
    listen = (LinkKind.LISTEN,)
    assert await links(cluster, events[0].event_id) == ([(OTHER, listen), (PARENT, listen)], [])
    assert await links(cluster, PARENT) == (
        [],
        [(events[1].event_id, (LinkKind.EVENT, LinkKind.LISTEN)), (events[0].event_id, listen)],
    )
    assert await caused(cluster) == [seqs[1], seqs[0]]
    assert await links(cluster, events[2].event_id) == ([], [])


async def test_an_arrival_without_emitter_or_for_an_execution_that_ended_links_nothing(
    cluster, new_event, emitted, receive
):
    waiting, ended = new_event(), new_event()
    seqs = await cluster.append(waiting, ended)
    await cluster.end(seqs[1])
    await receive(await emitted(""), seqs[0])
    await receive(await emitted(), seqs[1])
    await cluster.state.write([EventReceived(seqs[0], 99)])
    for event in (waiting, ended):
        assert await links(cluster, event.event_id) == ([], [])
    assert await caused(cluster) == []


async def test_of_many_emitters_the_newest_are_retained_and_what_started_the_execution(cluster, new_event, new_arrival):
    event = new_event(causes=(Cause(PARENT, LinkKind.EVENT),))
    [seq] = await cluster.append(event)
    emitters = [ids.mint(1, now_ms=1_000 + number) for number in range(limits.MAX_LINKED_EMITTERS + 2)]
    arrivals = [new_arrival(callback=False, emitter=emitter) for emitter in emitters]
    numbers = [appended.number for appended in await cluster.log.append_inbound(arrivals)]
    for portion in (numbers[:3], numbers[3:]):
        await cluster.state.write([EventReceived(seq, number) for number in portion])
    causes = [link.id for link in (await cluster.state.links(event.event_id, limit=1)).causes]
    assert causes == [*emitters[:1:-1], PARENT]
    assert await caused(cluster, emitters[1]) == []


async def test_links_are_removed_with_the_caused_execution_and_outlive_the_causing_one(cluster, new_event):
    parent = new_event()
    children = [new_event(causes=(Cause(parent.event_id, LinkKind.RUN),)) for _ in range(3)]
    seqs = await cluster.append(parent, *children)
    await cluster.end(seqs[0], seqs[1])
    await cluster.end(seqs[2], end_time_ms=5_000)
    assert await cluster.state.delete([seqs[1]]) == 1
    assert await caused(cluster, parent.event_id) == [seqs[3], seqs[2]]
    assert await cluster.state.expire(ended_before_ms=3_000) == 1
    assert await links(cluster, children[2].event_id) == ([(parent.event_id, (LinkKind.RUN,))], [])
    assert await caused(cluster, parent.event_id) == [seqs[3], seqs[2]]
    assert await cluster.state.expire(ended_before_ms=6_000) == 1
    assert await caused(cluster, parent.event_id) == [seqs[3]]


async def test_a_duplicate_and_a_replay_are_caused_by_nothing(cluster, new_event):
    first = new_event(causes=(Cause(PARENT, LinkKind.RUN),))
    [seq] = await cluster.append(first)
    await cluster.append(first._replace(causes=(Cause(OTHER, LinkKind.RUN),)))
    await cluster.end(seq)
    await cluster.append(new_event(replay_of=first.event_id))
    assert await caused(cluster) == [seq]
    assert await caused(cluster, OTHER) == []
