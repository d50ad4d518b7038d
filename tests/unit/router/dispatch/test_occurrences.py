"""Which changes of executions are told, and that nothing is made of them while nobody wants to know."""

import pytest

from flowhook.lifecycle import FROM_RUNNERS, TYPES, CorrelationLifecycle, Lifecycle, LifecycleEvent, TaskLifecycle
from flowhook.model import JournalEntry, Status
from router.dispatch import occurrences as module
from router.dispatch.occurrences import Occurrences
from router.storage.model import (
    Consumed,
    Ended,
    Journaled,
    Occurred,
    Parked,
    Requeued,
    Resumed,
    Started,
    Suspended,
)

NOW = 5_000
BEGAN = Occurred(1, Lifecycle.STARTED, NOW, first=True)


@pytest.fixture
def occurrences():
    made = Occurrences(lambda: NOW)
    made.by_flows = TYPES
    return made


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (Started(1, 1), [BEGAN]),
        (Parked(1, None, 1), [BEGAN]),
        (Requeued(1, 0), [BEGAN]),
        (Suspended(1, 0), [Occurred(1, Lifecycle.SUSPENDED, NOW)]),
        (Suspended(1, 0, term=1), [BEGAN, Occurred(1, Lifecycle.SUSPENDED, NOW)]),
        (Resumed(1, 0), [Occurred(1, Lifecycle.RESUMED, NOW)]),
        (Ended(1, Status.CANCELLED, NOW, 0), [Occurred(1, Lifecycle.CANCELLED, NOW)]),
        (Ended(1, Status.CANCELLED, NOW, 1), [BEGAN, Occurred(1, Lifecycle.CANCELLED, NOW)]),
        (Ended(1, Status.FAULTED, NOW, 1), [BEGAN, Occurred(1, Lifecycle.FAULTED, NOW)]),
        (Ended(1, Status.COMPLETED, NOW, 1), [BEGAN, Occurred(1, Lifecycle.COMPLETED, NOW)]),
        (Journaled(1, 0, JournalEntry("/do/0/a#0", b"1")), []),
        (Consumed(1), []),
    ],
    ids=str,
)
def test_what_a_change_means_to_others(occurrences, change, told):
    assert occurrences.of([change]) == told


def test_only_what_flows_or_executions_want_is_made(occurrences):
    changes = [Started(1, 1), Ended(2, Status.FAULTED, NOW, 1), Resumed(3, 0)]
    occurrences.by_flows = frozenset([Lifecycle.FAULTED])
    assert occurrences.of(changes) == [Occurred(2, Lifecycle.FAULTED, NOW)]
    occurrences.by_executions = {Lifecycle.RESUMED}
    assert occurrences.of(changes) == [Occurred(2, Lifecycle.FAULTED, NOW), Occurred(3, Lifecycle.RESUMED, NOW)]
    assert occurrences.wanted
    occurrences.by_flows, occurrences.by_executions = frozenset(), set()
    assert not occurrences.wanted


def test_no_more_than_so_many_wait_to_be_told(occurrences, monkeypatch):
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    for _ in range(2):
        occurrences.stored(len(occurrences.of([Resumed(1, 0), Resumed(2, 0)])))
    assert occurrences.pending == 3
    assert occurrences.of([Resumed(1, 0)]) == []
    occurrences.pending = 0
    assert len(occurrences.of([Resumed(1, 0)])) == 1


def test_of_what_runners_say_only_what_is_wanted_of_them_occurs(occurrences):
    faulted, forged = (LifecycleEvent(kind, "1", 5, b"{}") for kind in (TaskLifecycle.FAULTED, Lifecycle.FAULTED))
    within = occurrences.within(1, [faulted, forged])
    assert within == [Occurred(1, TaskLifecycle.FAULTED, 5, key="1", data=b"{}")]
    assert occurrences.of([Started(1, 1), *within]) == [BEGAN._replace(time_ms=5), *within]
    assert occurrences.of([Started(2, 1), *within]) == [BEGAN._replace(seq=2), *within]
    assert occurrences.from_runners == FROM_RUNNERS
    occurrences.flows_want(frozenset([TaskLifecycle.COMPLETED, Lifecycle.FAULTED]))
    assert occurrences.within(1, [faulted]) == []
    occurrences.by_executions = {CorrelationLifecycle.STARTED}
    assert occurrences.from_runners == {TaskLifecycle.COMPLETED, CorrelationLifecycle.STARTED}
