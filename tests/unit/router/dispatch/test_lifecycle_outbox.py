"""Which changes of executions are told, and that nothing is made of them while nobody wants to know."""

import pytest

from flowhook.events.lifecycle import (
    FROM_RUNNERS,
    TYPES,
    CorrelationEventType,
    LifecycleEvent,
    TaskEventType,
    WorkflowEventType,
)
from flowhook.model import JournalEntry, Status
from router.dispatch import state_writer as module
from router.dispatch.effects import EffectQueue
from router.dispatch.state_writer import LifecycleOutbox
from router.storage.model import (
    Consumed,
    Ended,
    Journaled,
    LifecycleRecorded,
    Parked,
    Requeued,
    Resumed,
    Started,
    Suspended,
)

NOW = 5_000
BEGAN = LifecycleRecorded(1, WorkflowEventType.STARTED, NOW, first=True)


@pytest.fixture
def occurrences():
    made = LifecycleOutbox(lambda: NOW, by_executions=set(), effects=EffectQueue())
    made.by_flows = TYPES
    return made


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        (Started(1, 1), [BEGAN]),
        (Started(1, 1, time_ms=NOW - 150), [BEGAN._replace(time_ms=NOW - 150)]),
        (Parked(1, None, 1), [BEGAN]),
        (Requeued(1, 0), [BEGAN]),
        (Suspended(1, 0), [LifecycleRecorded(1, WorkflowEventType.SUSPENDED, NOW)]),
        (Suspended(1, 0, term=1), [BEGAN, LifecycleRecorded(1, WorkflowEventType.SUSPENDED, NOW)]),
        (Resumed(1, 0), [LifecycleRecorded(1, WorkflowEventType.RESUMED, NOW)]),
        (Ended(1, Status.CANCELLED, NOW, 0), [LifecycleRecorded(1, WorkflowEventType.CANCELLED, NOW)]),
        (Ended(1, Status.CANCELLED, NOW, 1), [BEGAN, LifecycleRecorded(1, WorkflowEventType.CANCELLED, NOW)]),
        (Ended(1, Status.FAULTED, NOW, 1), [BEGAN, LifecycleRecorded(1, WorkflowEventType.FAULTED, NOW)]),
        (Ended(1, Status.COMPLETED, NOW, 1), [BEGAN, LifecycleRecorded(1, WorkflowEventType.COMPLETED, NOW)]),
        (Journaled(1, 0, JournalEntry("/do/0/a#0", b"1")), []),
        (Consumed(1), []),
    ],
    ids=str,
)
def test_what_a_change_means_to_others(occurrences, change, reported):
    assert occurrences.of([change]) == reported


def test_only_what_flows_or_executions_want_is_made(occurrences):
    changes = [Started(1, 1), Ended(2, Status.FAULTED, NOW, 1), Resumed(3, 0)]
    occurrences.by_flows = frozenset([WorkflowEventType.FAULTED])
    assert occurrences.of(changes) == [LifecycleRecorded(2, WorkflowEventType.FAULTED, NOW)]
    occurrences.by_executions = {WorkflowEventType.RESUMED}
    assert occurrences.of(changes) == [
        LifecycleRecorded(2, WorkflowEventType.FAULTED, NOW),
        LifecycleRecorded(3, WorkflowEventType.RESUMED, NOW),
    ]
    assert occurrences.wanted
    occurrences.by_flows, occurrences.by_executions = frozenset(), set()
    assert not occurrences.wanted


def test_no_more_than_so_many_wait_to_be_reported(occurrences, monkeypatch):
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    for _ in range(2):
        occurrences.stored(len(occurrences.of([Resumed(1, 0), Resumed(2, 0)])))
    assert occurrences.pending == 3
    assert occurrences.of([Resumed(1, 0)]) == []
    occurrences.pending = 0
    assert len(occurrences.of([Resumed(1, 0)])) == 1


def test_of_what_runners_say_only_what_is_wanted_of_them_occurs(occurrences):
    faulted, forged = (
        LifecycleEvent(kind, "1", 5, b"{}") for kind in (TaskEventType.FAULTED, WorkflowEventType.FAULTED)
    )
    within = occurrences.records_from_runner(1, [faulted, forged])
    assert within == [LifecycleRecorded(1, TaskEventType.FAULTED, 5, key="1", data=b"{}")]
    assert occurrences.of([Started(1, 1), *within]) == [BEGAN._replace(time_ms=5), *within]
    assert occurrences.of([Started(2, 1), *within]) == [BEGAN._replace(seq=2), *within]
    assert occurrences.from_runners == FROM_RUNNERS
    occurrences.set_wanted_by_flows(frozenset([TaskEventType.COMPLETED, WorkflowEventType.FAULTED]))
    assert occurrences.records_from_runner(1, [faulted]) == []
    occurrences.by_executions = {CorrelationEventType.STARTED}
    assert occurrences.from_runners == {TaskEventType.COMPLETED, CorrelationEventType.STARTED}
