"""The runner's half of Attach against a model of the router, with broken streams at any moment."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.examples import examples
from support.sessions import CAPACITY, LEASE, assignment, happened, new_session

from flowhook.attach import messages as m
from flowhook.attach.limits import MAX_CREDIT
from flowhook.model import JournalEntry
from runner import session as s


class Attach(RuleBasedStateMachine):
    """A router that keeps what it must, and a link that loses what was not read when it breaks."""

    def __init__(self):
        super().__init__()
        self.session = new_session()
        self.now = 0.0
        self.connected = False
        self.welcomed = False
        self.credit = 0
        self.number = 0
        self.leased: set[bytes] = set()
        self.settled: set[bytes] = set()
        self.journals: dict[bytes, dict[int, JournalEntry]] = {}
        self.working: dict[bytes, int] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.finished: set[bytes] = set()
        self.written: dict[bytes, int] = {}
        self.tells: dict[bytes, list[tuple[int, int]]] = {}
        self.reported: dict[bytes, set[int]] = {}

    def effects(self, effects):
        for effect in effects:
            match effect:
                case m.AssignmentBatch(assignments=assignments):
                    for assignment in assignments:
                        assert assignment.lease not in self.working
                        self.working[assignment.lease] = 0
                case m.DurableCheckpoint(lease=lease, index=index):
                    assert index in self.journals[lease]
                case s.Abandon(lease=lease, reason="ROUTER_AWAY"):
                    self.written[lease] = self.working.pop(lease)
                    self.finished.add(lease)
                case s.Abandon(lease=lease):
                    assert lease not in self.leased
                    self.working.pop(lease, None)

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self):
        self.session.connected(self.now)
        self.connected, self.welcomed, self.credit = True, False, 0
        (hello,) = self.session.take()
        assert set(hello.held_leases) == set(self.working) | {
            lease for lease in self.finished if lease in self.session._held
        }
        retained = {lease for lease in hello.held_leases if lease in self.leased}
        self.leased = retained  # the others are lost with the hello
        self.effects(self.session.receive(m.Welcome(LEASE, frozenset(retained)), self.now))
        self.welcomed = True

    @precondition(lambda self: self.connected)
    @rule(reads=st.booleans())
    def break_stream(self, reads):
        messages = self.session.take()
        if reads:
            self.read(messages)
        self.session.disconnected()
        self.connected, self.credit = False, 0

    @precondition(lambda self: self.connected)
    @rule()
    def write(self):
        self.read(self.session.take())

    def read(self, messages):
        for message in messages:
            match message:
                case m.Credit(assignments=assignments):
                    assert 1 <= assignments <= MAX_CREDIT
                    self.credit += assignments
                case m.CheckpointBatch(checkpoints=checkpoints):
                    for item in checkpoints:
                        if item.lease in self.leased and item.entry is None:
                            self.reported.setdefault(item.lease, set()).add(item.number)
                        elif item.lease in self.leased:
                            self.is_told(item.lease, before=item.index)
                            known = self.journals.setdefault(item.lease, {})
                            assert known.setdefault(item.index, item.entry) == item.entry
                            assert sorted(known) == list(range(len(known)))
                case m.OutcomeBatch(outcomes=outcomes):
                    for item in outcomes:
                        if item.lease in self.leased:
                            assert len(self.journals.get(item.lease, {})) == self.written[item.lease]
                            self.is_told(item.lease, before=self.written[item.lease])
                            self.leased.discard(item.lease)
                            self.settled.add(item.lease)

    def is_told(self, lease, *, before):
        """What happened before an entry is durable before it is, whatever broke in between."""
        wanted = {number for index, number in self.tells.get(lease, ()) if index <= before}
        assert wanted <= self.reported.get(lease, set())

    @precondition(lambda self: bool(self.working))
    @rule(data=st.data())
    def tell(self, data):
        lease = data.draw(st.sampled_from(sorted(self.working)))
        tells = self.tells.setdefault(lease, [])
        tells.append((self.working[lease], len(tells) + 1))
        assert self.session.report_events(lease, self.working[lease], (happened(len(tells)),))

    @precondition(lambda self: self.connected and self.credit > 0)
    @rule(count=st.integers(1, 4))
    def assign(self, count):
        items = []
        for _ in range(min(count, self.credit)):
            self.number += 1
            lease = b"%d" % self.number
            self.leased.add(lease)
            items.append(assignment(lease))
        self.credit -= len(items)
        self.effects(self.session.receive(m.AssignmentBatch(tuple(items)), self.now))

    @precondition(lambda self: bool(self.working))
    @rule(data=st.data())
    def journal(self, data):
        lease = data.draw(st.sampled_from(sorted(self.working)))
        index = self.working[lease]
        self.session.checkpoint(m.Checkpoint(lease, index, JournalEntry(f"k{index}", b"%d" % index)))
        self.working[lease] = index + 1

    @precondition(lambda self: bool(self.working))
    @rule(data=st.data())
    def finish(self, data):
        self.end(data.draw(st.sampled_from(sorted(self.working))))

    def end(self, lease):
        self.written[lease] = self.working.pop(lease)
        self.finished.add(lease)
        self.session.finish(lease, m.Completed(b"1"))

    @precondition(lambda self: self.connected and bool(self.journals))
    @rule(data=st.data())
    def acknowledge(self, data):
        lease = data.draw(st.sampled_from(sorted(self.journals)))
        index, number = max(self.journals[lease]), max(self.reported.get(lease, ()), default=0)
        self.effects(self.session.receive(m.CheckpointAck((m.DurableCheckpoint(lease, index, number),)), self.now))

    @precondition(lambda self: self.connected and bool(self.settled))
    @rule()
    def settle(self):
        self.effects(self.session.receive(m.Settlement(tuple(sorted(self.settled))), self.now))

    @precondition(lambda self: self.connected and bool(self.leased))
    @rule(data=st.data())
    def revoke(self, data):
        lease = data.draw(st.sampled_from(sorted(self.leased)))
        self.leased.discard(lease)
        self.effects(self.session.receive(m.Revocation((lease,), "LEASE_LOST"), self.now))

    @rule(seconds=st.floats(0.1, 8), dead=st.booleans())
    def time_passes(self, seconds, dead):
        """The router is connected, or `dead` all that time, or lives and takes leases away."""
        self.now += seconds
        if self.connected:
            self.session.renew(self.now)
        else:
            self.effects(self.session.expire(self.now))
            if not dead:
                self.leased.clear()

    @invariant()
    def the_capacity_is_kept(self):
        assert self.session.running == len(self.working)
        assert self.session.running + self.credit <= CAPACITY
        assert len(self.session._held) <= s.UNSETTLED_FACTOR * CAPACITY

    def teardown(self):
        """Whatever happened: connected long enough, everything the router still leases gets settled."""
        if not self.connected:
            self.connect()
        for lease in sorted(self.working):
            self.end(lease)
        self.write()
        assert not self.leased, "an outcome that the router waits for was not sent"
        self.effects(self.session.receive(m.Settlement(tuple(sorted(self.settled))), self.now))
        assert self.session.idle


TestAttach = Attach.TestCase
TestAttach.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)
