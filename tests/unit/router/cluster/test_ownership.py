"""Who claims, and when: single rules, and several routers with every interleaving of heartbeats, reads and refusals."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.examples import examples

from router.cluster.ownership import EXPIRE_SECONDS, PAUSE_SECONDS, RANK_SECONDS, Ownership
from router.cluster.records import MemberState, RouterRecord

NAMES = ("a", "b", "c")
LOOK = 0.1


def record(ownership, **fields):
    values = {
        "router": ownership.router,
        "address": f"{ownership.router}:1",
        "version": "1",
        "state": ownership.state,
        "epoch": ownership.epoch,
        "yielded": ownership.yielded,
        "position": 0,
        "candidate": ownership.candidate,
    }
    return RouterRecord(**(values | fields))


def owner_record(router="other", epoch=1, state=MemberState.SERVING, yielded=0):
    return RouterRecord(router, f"{router}:1", "1", state, epoch, yielded, 0, candidate=False)


def looked(ownership, start, end):
    """Look every 0.1 s, and return when a claim became due; None: it did not."""
    now = start
    while now <= end:
        if ownership.due(now):
            return now
        now += LOOK
    return None


@pytest.fixture
def follower():
    ownership = Ownership("a", 0.0)
    ownership.follows(current=True, epoch=0, now=0.0)
    return ownership


def test_a_router_alone_claims_after_it_has_listened(follower):
    assert looked(follower, 0.0, 10.0) == pytest.approx(EXPIRE_SECONDS, abs=2 * LOOK)


def test_a_router_that_does_not_follow_never_claims():
    ownership = Ownership("a", 0.0)
    assert looked(ownership, 0.0, 60.0) is None


def test_an_owner_that_is_heard_is_left_alone(follower):
    now = 0.0
    while now < 30.0:
        follower.heard(owner_record(), now)
        assert looked(follower, now, now + 0.5) is None
        now += 0.5


def test_a_silent_owner_is_replaced(follower):
    follower.heard(owner_record(), 1.0)
    assert looked(follower, 1.0, 10.0) == pytest.approx(1.0 + EXPIRE_SECONDS, abs=2 * LOOK)


def test_an_owner_that_yields_is_replaced_at_once(follower):
    assert looked(follower, 0.0, 1.0) is None
    follower.heard(owner_record(), 1.0)
    follower.heard(owner_record(state=MemberState.FOLLOWING, yielded=1), 1.2)
    assert looked(follower, 1.2, 10.0) == pytest.approx(1.2, abs=2 * LOOK)


def test_heartbeats_of_one_that_yielded_do_not_delay_the_claim_of_the_next(follower):
    follower.heard(owner_record(), 1.0)
    claims = [None]
    now = 1.2
    while now < 5.0 and claims[-1] is None:
        follower.heard(owner_record(state=MemberState.FOLLOWING, yielded=1), now)
        claims.append(looked(follower, now, now + 0.4))
        now += 0.5
    assert claims[-1] is not None


def test_the_candidates_claim_one_after_the_other():
    first, second = sorted((Ownership(name, 0.0) for name in ("a", "b")), key=lambda each: -rank_weight(each))
    for each, other in ((first, second), (second, first)):
        each.follows(current=True, epoch=0, now=0.0)
        other.follows(current=True, epoch=0, now=0.0)
    claims = {}
    now = 0.0
    while now < 5.0:
        if round(now / 0.5, 6) % 1 == 0:
            first.heard(record(second), now)
            second.heard(record(first), now)
        for each in (first, second):
            if each.router not in claims and each.due(now):
                claims[each.router] = now
        now = round(now + LOOK, 6)
    assert claims[second.router] - claims[first.router] >= RANK_SECONDS - LOOK


def rank_weight(ownership):
    from router.cluster.ownership import _weight  # noqa: PLC0415

    return int.from_bytes(_weight(ownership.router))


def test_a_router_that_was_stopped_listens_before_it_claims(follower):
    follower.heard(owner_record(), 0.5)
    assert looked(follower, 0.5, 1.0) is None
    assert looked(follower, 60.0, 60.0 + EXPIRE_SECONDS - 2 * LOOK) is None


def test_an_owner_that_the_log_shows_is_given_time_to_be_heard(follower):
    follower.follows(current=True, epoch=7, now=1.4)
    assert looked(follower, 1.4, 1.4 + EXPIRE_SECONDS - 2 * LOOK) is None


def test_an_owner_that_was_started_again_claims_at_once(follower):
    follower.follows(current=True, epoch=3, own=True, now=0.1)
    assert follower.due(0.1)


def test_an_owner_that_was_started_again_too_late_does_not(follower):
    follower.heard(owner_record(epoch=4), 0.1)
    follower.follows(current=True, epoch=3, own=True, now=0.1)
    assert not follower.due(0.1)


def test_a_refused_claim_is_followed_by_a_pause(follower):
    at = looked(follower, 0.0, 10.0)
    follower.refused(at)
    follower.follows(current=True, epoch=0, now=at)
    assert not follower.due(at + PAUSE_SECONDS - 0.01)


def own(follower, epoch=1):
    assert looked(follower, 0.0, 10.0) is not None
    follower.claimed(epoch)
    follower.ready()
    assert follower.state is MemberState.SERVING


def test_a_later_ownership_of_another_ends_this_one(follower):
    own(follower)
    follower.heard(owner_record(epoch=1), 5.0)
    assert follower.owns
    follower.heard(owner_record(epoch=2), 5.0)
    assert follower.state is MemberState.LOST
    follower.done(5.1)
    assert follower.owner().router == "other"


def test_a_router_that_is_to_stop_hands_over_and_claims_no_more(follower):
    own(follower)
    follower.stop()
    assert follower.state is MemberState.HANDING_OVER
    follower.done(5.0)
    assert (follower.state, follower.yielded) == (MemberState.FOLLOWING, 1)
    follower.follows(current=True, epoch=1, now=5.0)
    assert looked(follower, 5.0, 60.0) is None


def test_an_owner_that_is_about_to_serve_is_known_but_not_called(follower):
    follower.heard(owner_record(state=MemberState.RECOVERING), 1.0)
    assert follower.owner().serving is False
    follower.heard(owner_record(), 1.1)
    assert follower.owner().serving is True


@settings(max_examples=examples(60), stateful_step_count=60, deadline=None)
class Routers(RuleBasedStateMachine):
    """Three routers and a log that takes a record only behind the last one."""

    @initialize()
    def begin(self):
        self.now = 0.0
        self.log = []
        self.machines = {name: Ownership(name, 0.0) for name in NAMES}
        self.read = dict.fromkeys(NAMES, 0)
        self.stopped = set()
        self.paused = set()

    name = st.sampled_from(NAMES)

    def epoch(self, name):
        return max((epoch for epoch, _ in self.log[: self.read[name]]), default=0)

    def follow(self, name):
        self.read[name] = len(self.log)
        self.machines[name].follows(current=True, epoch=self.epoch(name), now=self.now)

    def append(self, name, epoch):
        """Append behind what the router has read, as the log does it; whether that was accepted."""
        if self.read[name] != len(self.log):
            return False
        self.log.append((epoch, name))
        self.read[name] += 1
        return True

    @rule(seconds=st.sampled_from([0.1, 0.1, 0.5, 2.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(name=name)
    def pause(self, name):
        self.paused.add(name)

    @rule(name=name)
    def resume(self, name):
        self.paused.discard(name)

    @rule(sender=name, receiver=name)
    def hear(self, sender, receiver):
        if sender != receiver and not {sender, receiver} & self.paused:
            self.machines[receiver].heard(record(self.machines[sender]), self.now)

    @rule(name=name)
    def read_log(self, name):
        if name not in self.paused and self.machines[name].state is MemberState.FOLLOWING:
            self.follow(name)

    @rule(name=name)
    def look(self, name):
        if name not in self.paused:
            self.machines[name].due(self.now)

    @rule(name=name, reread=st.booleans())
    def complete_claim(self, name, reread):
        machine = self.machines[name]
        if name in self.paused or machine.state is not MemberState.CLAIMING:
            return
        if reread:
            self.read[name] = len(self.log)
        epoch = self.epoch(name) + 1
        if self.append(name, epoch):
            machine.claimed(epoch)
        else:
            machine.refused(self.now)

    @rule(name=name)
    def serve(self, name):
        if name not in self.paused:
            self.machines[name].ready()

    @rule(name=name)
    def write(self, name):
        machine = self.machines[name]
        if name not in self.paused and machine.owns and not self.append(name, machine.epoch):
            machine.lose()

    @rule(name=name)
    def finish(self, name):
        machine = self.machines[name]
        if name not in self.paused and machine.state in (MemberState.LOST, MemberState.HANDING_OVER):
            machine.done(self.now)

    @precondition(lambda self: len(self.stopped) < len(NAMES) - 1)
    @rule(name=name)
    def stop(self, name):
        if name not in self.paused:
            self.stopped.add(name)
            self.machines[name].stop()

    @invariant()
    def ownerships_never_interleave(self):
        epochs = [epoch for epoch, _ in getattr(self, "log", ())]
        assert epochs == sorted(epochs)
        assert len(set(self.log if epochs else ())) == len(set(epochs)), "one epoch has two writers"

    def teardown(self):
        """In peace, one router serves soon, and goes on to serve."""
        if not hasattr(self, "log"):
            return
        self.paused.clear()
        serving_since = None
        end = self.now + 30.0
        step = 0
        while self.now < end:
            self.now += LOOK
            step += 1
            for name, machine in self.machines.items():
                if name in self.stopped and not machine.owns:
                    continue
                if step % 5 == 0:
                    for other in NAMES:
                        self.hear(name, other)
                self.read_log(name)
                self.look(name)
                self.complete_claim(name, reread=True)
                self.serve(name)
                self.write(name)
                self.finish(name)
            serving = [m for n, m in self.machines.items() if m.state is MemberState.SERVING and n not in self.stopped]
            assert len(serving) <= 1 or serving_since is None
            if len(serving) != 1:
                assert serving_since is None, "the ownership changed although nothing was wrong"
            elif serving_since is None and self.now > end - 25.0:
                serving_since = self.now
        assert serving_since is not None, {name: machine.state for name, machine in self.machines.items()}


TestRouters = Routers.TestCase
