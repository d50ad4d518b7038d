"""Breakers of destinations: when calls park, who tries again, how those that wait are released, and for whom."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flowhook.attach.limits import MAX_RETRY_AFTER_MS
from flowhook.attach.messages import CallReport, DestinationState
from router.dispatch.outage_control import MAX_WAKES
from router.scheduling import outages as o
from router.scheduling.outages import BreakerPolicy, Outages

ORIGIN = "https://api.example"
POLICY = BreakerPolicy(failures=3, probe_ms=1000)


class Shard:
    """Outages with a clock, and what runners would know."""

    def __init__(self, policy=POLICY):
        self.policy = policy
        self.paused = set()
        self.left = set()
        self.outages = Outages(
            lambda _flow: self.policy, lambda flow: flow in self.paused, lambda seq: seq not in self.left
        )
        self.now = 1_000_000
        self.known = {}
        self.woken = []

    def told(self):
        self.known |= self.outages.announcements
        self.outages.announcements.clear()

    def fail(self, flow="a", times=1, origin=ORIGIN, cause="down", *, retry_after_ms=0, permitted=True):
        report = CallReport(flow, origin, 0, times, cause, retry_after_ms, permitted=permitted)
        self.outages.report(report, self.now)
        self.told()

    def succeed(self, flow="a", origin=ORIGIN, times=1):
        self.outages.report(CallReport(flow, origin, times, 0), self.now)
        self.told()

    def park(self, *seqs, flow="a", origins=(ORIGIN,)):
        for seq in seqs:
            self.outages.park(seq, flow, origins, self.now)

    def retry(self, *seqs, flow="a", origin=ORIGIN, follows=False):
        for seq in seqs:
            self.outages.retry_later(seq, flow, origin, f"k{seq}", follows=follows)

    def wake(self, after=0, limit=1000):
        self.now += after
        found = self.outages.wake(self.now, limit)
        self.woken += found
        self.told()
        return [each.seq for each in found]

    def parks(self, flow="a", origin=ORIGIN):
        return self.known.get((flow, origin)) is DestinationState.PARKS


@pytest.fixture
def shard():
    return Shard()


def test_calls_park_after_as_many_failures_in_a_row_as_the_flow_says(shard):
    shard.fail(times=2)
    assert not shard.parks()
    assert shard.known[("a", ORIGIN)] is DestinationState.WATCHED
    shard.succeed()
    shard.fail(times=2)
    assert not shard.parks()
    shard.fail()
    assert shard.parks()
    [incident] = shard.outages.incidents()
    assert (incident.destination, incident.cause, incident.flows) == (ORIGIN, "down", ("a",))


def test_calls_park_when_a_share_of_the_last_ones_failed_though_others_succeed(shard):
    shard.policy = BreakerPolicy(failures=5, ratio=0.5)
    for _ in range(o.WINDOW // 2 - 1):
        shard.fail()
        shard.succeed()
    assert not shard.parks()  # too few are known
    shard.succeed(times=o.WINDOW)
    for _ in range(o.WINDOW // 2 - 1):  # those before are forgotten, whatever they were
        shard.succeed()
        shard.fail()
    assert not shard.parks()
    shard.succeed()
    shard.fail()
    assert shard.parks()
    [incident] = shard.outages.incidents()
    assert incident.failures == o.WINDOW // 2


def test_failures_that_are_reported_together_with_successes_count_for_the_share(shard):
    shard.policy = BreakerPolicy(failures=1000, ratio=0.7)
    shard.fail()
    shard.outages.report(CallReport("a", ORIGIN, 31, 19, "down", earlier_failures=50), shard.now)
    shard.told()
    assert not shard.parks()  # 69 of the last 100, as the first one is forgotten
    shard.fail(times=50)  # instead of the earlier ones
    assert not shard.parks()
    shard.fail()
    assert shard.parks()


def test_the_share_is_counted_anew_after_an_outage(shard):
    shard.policy = BreakerPolicy(failures=1000, ratio=0.7)
    shard.fail(times=o.WINDOW)
    assert shard.parks()
    shard.park(1)
    shard.wake(shard.policy.probe_ms)
    shard.succeed()
    shard.wake()
    shard.fail(times=o.WINDOW - 1)
    assert not shard.parks()
    shard.fail()
    assert shard.parks()


def test_one_at_a_time_tries_again_each_time_later(shard):
    shard.fail(times=3)
    shard.park(1, 2, 3)
    assert shard.wake(999) == []
    assert shard.wake(1) == [1]
    assert shard.wake(10_000) == []  # nothing is known of the first one yet
    shard.fail()
    shard.park(1)
    assert shard.wake(1999) == []
    assert shard.wake(1) == [2]
    shard.fail()
    assert shard.wake(3999) == []
    assert shard.wake(1) == [3]
    for _ in range(12):
        shard.fail()
        shard.park(1)
        before = shard.now
        while not shard.wake(1000):
            pass
    assert shard.now - before == o.MAX_PROBE_INTERVAL_MS


def test_calls_that_were_under_way_when_it_went_down_say_nothing_of_the_probe(shard):
    """Those of a target that hangs fail long after, by their timeouts."""
    shard.fail(times=3)
    shard.park(1, 2)
    assert shard.wake(1000) == [1]
    for _ in range(10):
        shard.fail(permitted=False)
        assert shard.wake(1000) == []  # the probe is still under way, and the next one is not put off
    shard.fail()
    assert shard.wake(2000) == [2]


def test_a_flow_that_is_patient_and_one_whose_calls_fail_always_put_off_no_probe_of_another(shard):
    patient, quick = BreakerPolicy(3, 300_000), BreakerPolicy(3, 1000)
    shard.outages = Outages({"a": patient, "evil": quick, "b": quick}.get)
    for seq, flow in enumerate(("a", "evil")):
        shard.fail(flow=flow, times=3)
        shard.park(seq, flow=flow)
    woken = []
    for _ in range(300):
        woken += shard.wake(1000)
        if woken[-1:] == [1]:
            shard.fail(flow="evil")
            shard.park(1, flow="evil")
    assert woken.count(0) == 1  # no sooner than the flow says
    assert 9 <= woken.count(1) <= 12  # 1, 2, 4, … 60 s
    shard.fail(flow="a")
    shard.fail(flow="b", times=3)
    shard.park(2, flow="b")
    probes = {}
    for second in range(8):
        for seq in shard.wake(1000):
            probes[seq] = second
            shard.fail(flow=("a", "evil", "b")[seq])
    assert probes[2] <= 1


def test_a_destination_says_itself_when_to_try_again_within_bounds(shard):
    shard.fail(times=3, retry_after_ms=60_000)
    shard.park(1)
    assert shard.wake(59_999) == []
    assert shard.wake(1) == [1]
    shard.fail(retry_after_ms=10**12)
    shard.park(1)
    assert shard.wake(MAX_RETRY_AFTER_MS - 1) == []
    assert shard.wake(1) == [1]


def test_a_pause_that_is_asked_of_one_flow_holds_up_no_other(shard):
    """A destination may ask it for the account that the flow calls with."""
    shard.fail(flow="evil.limited", times=3, cause="it answers 429", retry_after_ms=MAX_RETRY_AFTER_MS)
    shard.fail(flow="bank.pay", times=3)
    shard.park(1, flow="evil.limited")
    shard.park(2, flow="bank.pay")
    [incident] = shard.outages.incidents()
    assert incident.next_probe_time_ms == shard.now + POLICY.probe_ms
    assert shard.wake(POLICY.probe_ms) == [2]
    shard.fail(flow="bank.pay")
    shard.park(2, flow="bank.pay")
    assert shard.wake(2 * POLICY.probe_ms) == [2]
    shard.succeed(flow="bank.pay")
    assert shard.wake(60_000) == []
    [incident] = shard.outages.incidents()
    assert incident.next_probe_time_ms == 1_000_000 + MAX_RETRY_AFTER_MS
    assert shard.outages.probe_now(ORIGIN, shard.now)
    assert shard.wake() == [1]  # the operator knows better


def test_a_probe_that_is_cancelled_before_a_runner_has_it_makes_room_for_another(shard):
    shard.fail(times=3)
    shard.park(1, 2)
    [woken] = shard.outages.wake(shard.now + POLICY.probe_ms, 10)
    shard.outages.permits[1] = woken
    shard.outages.leave(1)
    assert shard.wake(POLICY.probe_ms) == [2]


def test_a_flow_that_is_paused_makes_no_probes_while_others_wait_for_them(shard):
    for seq, flow in enumerate("ab"):
        shard.fail(flow=flow, times=3)
        shard.park(seq, flow=flow)
    shard.paused = {"a"}
    assert shard.wake(POLICY.probe_ms) == [1]
    shard.succeed(flow="b")
    assert shard.wake(60_000) == []
    shard.paused.clear()
    assert shard.wake() == [0]


def test_a_probe_of_which_nothing_is_heard_makes_room_for_another(shard):
    shard.fail(times=3)
    shard.park(1, 2)
    assert shard.wake(1000) == [1]
    assert shard.wake(o.PROBE_PATIENCE_MS - 1) == []
    assert shard.wake(1) == [2]
    shard.park(2)  # its runner was lost, and it was assigned without a permit
    assert shard.wake() == [2]


def test_a_probe_that_ended_without_a_call_makes_room_for_another(shard):
    shard.fail(times=3)
    shard.park(1, 2)
    assert shard.wake(1000) == [1]
    shard.outages.permits[1] = shard.woken[-1]
    shard.left.add(1)  # no runner has it yet
    assert shard.wake(1) == []
    del shard.outages.permits[1]
    shard.left.clear()
    assert shard.wake(1) == []
    shard.left.add(1)
    assert shard.wake(1) == [2]


def test_those_that_wait_are_released_along_a_ramp(shard):
    shard.fail(times=3)
    shard.park(*range(1, 3001))
    assert shard.wake(1000) == [1]
    shard.succeed()
    released = shard.wake()
    assert released == list(range(2, 12))
    for second in range(1, 8):
        released += shard.wake(1000)
        assert len(released) == o.FIRST_RELEASED * 2**second
        assert shard.parks()
    shard.park(5000)  # who comes now is behind the others
    released += shard.wake(3000, limit=10_000)
    assert released == [*range(2, 3001), 5000]
    assert not shard.parks()


def test_2000_executions_of_three_flows_follow_within_the_ramp(shard):
    flows = {"a": range(1000), "b": range(1000, 1500), "x.c": range(1500, 2000)}
    for flow, seqs in flows.items():
        shard.fail(flow=flow, times=3)
        shard.park(*seqs, flow=flow)
    released = []
    while shard.outages.waiting:
        woken = shard.wake(o.TICK_MS, MAX_WAKES)
        if not released and woken:
            up_ms = shard.now
        for seq in woken:
            shard.succeed(flow=next(flow for flow, seqs in flows.items() if seq in seqs))
        released += woken
        assert len(released) <= len(flows) * (
            1 + o.FIRST_RELEASED * 2 ** ((shard.now - up_ms) / 1000 if released else 0)
        )
    assert shard.now - up_ms <= o.DRAIN_MS
    for seqs in flows.values():
        assert [seq for seq in released if seq in seqs] == list(seqs)


class Counted(dict):
    """Counts what is iterated over."""

    steps = 0

    def __iter__(self):
        for each in super().__iter__():
            self.steps += 1
            yield each


def test_a_tick_does_not_look_at_all_that_wait(shard):
    shard.fail(times=3)
    breaker = shard.outages._destinations[ORIGIN].breakers["a"]
    breaker.waiting = Counted()
    shard.park(*range(5000))
    assert shard.wake(1000) == [0]
    shard.succeed()
    for _ in range(10):
        before = breaker.waiting.steps
        woken = shard.wake(o.TICK_MS)
        assert breaker.waiting.steps - before <= len(woken) + 1


def test_those_that_wait_for_another_try_follow_the_others(shard):
    shard.retry(1, 2)
    shard.retry(3, flow="b")
    shard.retry(4, origin="https://other.example")
    shard.fail(times=3)
    shard.retry(5)  # one that was let through, and failed
    shard.park(*range(10, 20))
    assert shard.wake(1000) == [10]  # they are no probes
    shard.retry(10)
    shard.outages.leave(2)  # its time has come
    shard.fail()
    assert shard.wake(2000) == [11]
    shard.succeed()
    [incident] = shard.outages.incidents()
    assert incident.history[-1].text == "up for a; 11 executions follow"
    assert shard.wake() == [*range(12, 20), 1, 5]
    shard.wake(1000)
    assert shard.woken[-3:] == [o.Wake(1, ORIGIN, retry_key="k1"), *shard.woken[-2:]]
    assert shard.woken[-1] == o.Wake(10, ORIGIN, retry_key="k10")
    assert not shard.parks()
    assert shard.outages.waiting == 0


def test_a_destination_that_goes_up_and_down_uses_up_no_tries(shard):
    """An execution follows once an incident."""
    shard.retry(1)
    for _ in range(5):
        shard.fail(times=3)
        shard.park(2)
        assert shard.wake(1000) == [2]
        shard.succeed()
        shard.wake()
        shard.retry(1)
    assert [each.seq for each in shard.woken].count(1) == 1
    shard.wake(o.CALM_MS)
    assert shard.outages.incidents() == []
    shard.fail(times=3)
    shard.park(2)
    shard.wake(1000)
    shard.succeed()
    assert shard.wake() == [1]


def test_a_success_lets_those_follow_that_wait_for_another_try_where_nothing_opened(shard):
    shard.fail()
    shard.retry(*range(1, 20), follows=True)
    shard.retry(20)  # it has followed once
    shard.retry(21, flow="b", follows=True)
    assert shard.wake() == []
    shard.outages.leave(1)  # its time has come
    shard.succeed()
    assert shard.wake() == [2, 3]
    assert shard.woken[0] == o.Wake(2, ORIGIN, retry_key="k2")
    assert shard.wake(60_000) == []
    shard.succeed(times=2)
    assert shard.wake() == [4, 5, 6, 7]
    shard.succeed(times=100)
    assert shard.wake(limit=3) == [8, 9, 10]
    assert shard.wake(limit=3) == [11, 12, 13]
    shard.fail()  # the others wait for the next success
    assert shard.wake() == []
    assert shard.outages.tick_ms == o.IDLE_TICK_MS
    shard.succeed(times=100)
    assert shard.outages.tick_ms == o.TICK_MS
    assert shard.wake() == [*range(14, 20)]
    assert shard.outages.incidents() == []
    assert shard.outages.tick_ms == o.IDLE_TICK_MS


def test_the_flows_that_follow_share_what_is_woken_at_once(shard):
    for flow, first in (("a", 0), ("b", 100)):
        shard.fail(flow)
        shard.retry(*range(first, first + 50), flow=flow, follows=True)
        shard.succeed(flow, times=100)
    assert shard.wake(limit=20) == [*range(10), *range(100, 110)]


def test_runners_report_successes_for_as_long_as_executions_wait_for_one(shard):
    shard.fail()
    shard.retry(1, follows=True)
    shard.wake(o.COUNTED_MS + o.TIDY_MS)
    assert shard.known["a", ORIGIN] is DestinationState.WATCHED
    shard.succeed()
    assert shard.wake() == [1]
    shard.wake(o.TIDY_MS)
    assert shard.known["a", ORIGIN] is DestinationState.UNKNOWN


def test_those_that_were_found_waiting_for_another_try_at_a_start_follow_a_success(shard):
    shard.retry(1, follows=True)
    shard.retry(2, origin="https://other.example")
    shard.outages.watch_retries(shard.now)
    shard.told()
    assert shard.known == {("a", ORIGIN): DestinationState.WATCHED}
    shard.succeed()
    assert shard.wake() == [1]


def test_what_is_kept_of_those_that_wait_for_another_try_goes_with_them(shard):
    for seq in range(1000):
        shard.retry(seq, origin=f"https://{seq}.example")
        shard.outages.leave(seq)
    assert not shard.outages._retries
    assert not shard.outages._retry_lines
    assert not shard.outages


def test_a_drain_that_takes_long_holds_up_no_other(shard):
    """A flow for which very many wait is the first of those that drain."""
    other, third = "https://other.example", "https://third.example"
    flows = (("a", ORIGIN, range(5000)), ("b", other, range(5000, 5200)), ("c", third, range(6000, 6001)))
    for flow, origin, seqs in flows:
        shard.fail(flow=flow, times=3, origin=origin)
        shard.park(*seqs, flow=flow, origins=(origin,))
    assert shard.wake(POLICY.probe_ms) == [0, 5000, 6000]
    for flow, origin, _ in flows[:2]:
        shard.succeed(flow=flow, origin=origin)
    shard.fail(flow="c", origin=third)
    shard.park(6000, flow="c", origins=(third,))
    woken = shard.wake(o.DRAIN_MS, MAX_WAKES)
    assert woken == [*range(5001, 5200), *range(1, MAX_WAKES - 199 + 1), 6000]  # the last one is a probe


def test_a_destination_that_fails_again_while_it_is_drained_stops_the_drain(shard):
    shard.fail(times=3)
    shard.park(*range(100))
    shard.wake(1000)
    shard.succeed()
    assert len(shard.wake()) == 10
    shard.fail(times=3)
    assert shard.wake() == []
    assert shard.wake(1000) == [11]
    assert len(shard.outages.incidents()) == 1


def test_an_incident_is_over_when_nothing_parked_for_a_while_and_one_that_flaps_is_one(shard):
    shard.fail(times=3)
    shard.succeed()
    shard.wake()
    shard.wake(o.CALM_MS - 1)
    shard.fail(times=3)  # down again
    shard.park(7)
    shard.wake(1000)
    shard.succeed()
    shard.wake()
    shard.wake(o.CALM_MS)
    assert shard.outages.incidents() == []
    [incident] = shard.outages.changed.values()
    assert (incident.close_time_ms, incident.destination, incident.failures) == (shard.now, ORIGIN, 6)
    assert [note.text for note in incident.history] == [
        "down for a: down",
        "up for a; 0 executions follow",
        "down for a: down",
        "up for a; 0 executions follow",
        "over",
    ]
    shard.wake(o.COUNTED_MS + 1)
    assert not shard.outages
    assert set(shard.known.values()) == {DestinationState.UNKNOWN}


def test_calls_of_a_flow_make_no_other_flow_wait(shard):
    """Who wants to stop the calls of others can't: not even by two flows of his, or by many."""
    for number in range(10):
        shard.fail(flow=f"evil.{number}", times=1000)
    assert not shard.parks(flow="bank.pay")
    shard.fail(flow="bank.pay", times=2)
    assert not shard.parks(flow="bank.pay")


def test_calls_that_succeed_for_one_flow_let_no_other_flow_call(shard):
    shard.fail(flow="a", times=3)
    shard.fail(flow="b", times=3)
    shard.park(1, 2, flow="a")
    shard.park(3, 4, flow="b")
    assert shard.wake(1000) == [1]
    shard.succeed(flow="a")
    assert shard.wake() == [2, 3]  # b tries at once, by one
    assert shard.parks(flow="b")


def test_namespaces_take_turns_with_the_probe(shard):
    """However many flows of one namespace fail always, another one's comes next when its time has come."""
    for number in range(10):
        shard.fail(flow=f"evil.{number}", times=3)
        shard.park(*range(1000 + 100 * number, 1010 + 100 * number), flow=f"evil.{number}")
    shard.fail(flow="bank.pay", times=3)
    shard.park(*range(1, 10), flow="bank.pay")
    probes = []
    due = shard.now + POLICY.probe_ms
    while len(probes) < 30:
        for seq in shard.wake(1000):
            probes.append(seq)
            shard.fail(flow="bank.pay" if seq < 1000 else f"evil.{(seq - 1000) // 100}")
            if seq < 1000:
                assert shard.now <= due + POLICY.probe_ms
                due = shard.outages._destinations[ORIGIN].breakers["bank.pay"].probe_at_ms
    assert sum(seq < 1000 for seq in probes) >= 4
    assert len({seq // 100 for seq in probes[:15] if seq >= 1000}) == 10  # and its own flows take turns, too


def test_a_flow_has_a_share_of_the_destinations_that_are_known(shard):
    for number in range(2 * o.MAX_BREAKERS_OF_FLOW):
        shard.fail(origin=f"https://{number}.example", times=3)
    assert sum(shard.parks(origin=f"https://{number}.example") for number in range(1000)) == o.MAX_BREAKERS_OF_FLOW
    shard.fail(flow="b", times=3)
    assert shard.parks(flow="b")
    shard.outages.park(1, "a", ["https://127.example"], shard.now)  # what is not known to be down is not waited for
    assert shard.wake() == [1]


def test_destinations_that_senders_choose_leave_room_for_those_that_are_down(shard):
    shard.fail(origin="https://0.example", times=2)
    for number in range(1, 3 * o.MAX_BREAKERS_OF_FLOW):
        shard.now += 1
        shard.fail(origin=f"https://{number}.example")
    assert sum(state is not DestinationState.UNKNOWN for state in shard.known.values()) == o.MAX_BREAKERS_OF_FLOW
    shard.fail(times=3)
    assert shard.parks()
    for number in range(3 * o.MAX_BREAKERS_OF_FLOW):
        shard.fail(origin=f"https://{number}.example")
    assert shard.parks()  # what is down stays


def test_all_breakers_together_are_bounded(shard, monkeypatch):
    monkeypatch.setattr(o, "MAX_BREAKERS", 10)
    for number in range(30):
        shard.fail(flow=f"f{number}", times=3)
    assert sum(shard.parks(flow=f"f{number}") for number in range(30)) == 10
    shard.wake(o.UNUSED_MS + 1)  # nobody waited
    shard.fail(flow="late", times=3)
    assert shard.parks(flow="late")


def test_what_nobody_calls_any_more_is_no_incident(shard):
    shard.fail(times=3)
    assert shard.wake(o.UNUSED_MS) == []
    shard.wake(o.TIDY_MS)
    shard.wake(o.CALM_MS)
    assert shard.outages.incidents() == []
    [over] = shard.outages.changed.values()
    assert [each.text for each in over.history] == ["down for a: down", "a does not call it any more", "over"]


def test_a_flow_that_switches_it_off_waits_no_more(shard):
    shard.fail(times=3)
    shard.park(*range(100))
    shard.policy = None
    assert shard.wake() == list(range(100))
    assert not shard.parks()
    shard.fail(times=100)
    assert not shard.parks()


def test_an_execution_waits_for_any_of_several_destinations(shard):
    other = "https://other.example"
    shard.fail(times=3)
    shard.fail(times=3, origin=other)
    shard.park(1, 2, origins=(ORIGIN, other))
    assert [(each.seq, each.origin) for each in shard.outages.wake(shard.now + 1000, 10)] == [(1, ORIGIN), (2, other)]


def test_an_operator_makes_it_try_now_or_lets_calls_fail(shard):
    assert not shard.outages.probe_now(ORIGIN, shard.now)
    assert shard.outages.let_fail(ORIGIN, shard.now) is None
    shard.fail(times=3, cause="it answers 503")
    shard.park(1, 2, 3)
    assert shard.outages.probe_now(ORIGIN, shard.now)
    assert shard.wake() == [1]
    assert shard.outages.let_fail(ORIGIN, shard.now) == 2
    failing = shard.outages.wake(shard.now, 10)
    assert failing == [o.Wake(2, ORIGIN, "it answers 503"), o.Wake(3, ORIGIN, "it answers 503")]
    shard.park(4)
    assert shard.wake() == []  # who comes later waits


def test_calls_that_an_operator_lets_fail_do_so_little_by_little(shard):
    other = "https://other.example"
    shard.fail(times=3)
    shard.fail(times=3, origin=other)
    breaker = shard.outages._destinations[ORIGIN].breakers["a"]
    breaker.waiting = Counted()
    shard.park(*range(5000))
    shard.park(9000, origins=(other, ORIGIN))
    assert shard.outages.let_fail(ORIGIN, shard.now) == 5001
    assert breaker.failing[0].steps == 0
    shard.park(6000)
    assert shard.outages.let_fail(ORIGIN, shard.now) == 1
    shard.outages.leave(7)  # somebody cancels it
    assert 9000 in shard.wake(POLICY.probe_ms, limit=10)  # as a probe of the other one
    failed = [*shard.woken]
    while breaker.failing:
        before = getattr(breaker.failing[0], "steps", 0)
        woken = shard.wake(o.TICK_MS, MAX_WAKES)
        assert getattr(breaker.failing[0] if breaker.failing else None, "steps", 0) - before <= len(woken) + 1
        assert len(woken) <= MAX_WAKES // 2
    failed = [each.seq for each in shard.woken if each.failure]
    assert failed == [*range(7), *range(8, 5000), 6000]
    assert shard.outages.waiting == 0


def test_a_flow_of_which_many_calls_fail_delays_no_other_of_which_few_do(shard):
    for flow in ("a", "b"):
        shard.fail(flow, times=3)
    shard.park(*range(5000))
    shard.park(6000, 6001, flow="b")
    shard.outages.let_fail(ORIGIN, shard.now)
    woken = shard.wake(limit=MAX_WAKES)
    assert len(woken) == MAX_WAKES // 2
    assert {6000, 6001} < set(woken)


def test_calls_that_fail_little_by_little_do_so_though_the_destination_is_back(shard):
    shard.fail(times=3)
    shard.park(1, 2, *range(10, 5000))
    assert shard.wake(POLICY.probe_ms) == [1]
    assert shard.outages.let_fail(ORIGIN, shard.now) == 4991
    shard.succeed()
    for _ in range(3 * o.COUNTED_MS // 1000):
        shard.wake(1000, 20)
    assert [incident.waiting for incident in shard.outages.incidents()] == [0]
    while shard.outages.waiting:
        shard.wake(1000, 1000)
    shard.wake(o.TIDY_MS)
    shard.wake(o.CALM_MS)
    assert shard.outages.incidents() == []


def test_what_is_down_for_days_is_given_up(shard):
    shard.fail(times=3)
    shard.park(1)
    woken = []
    for _ in range(2 * 3 * 24 * 60):
        woken += [each.failure for each in shard.outages.wake(shard.now, 10) if each.failure]
        shard.fail()
        shard.park(1)
        shard.now += 60_000
    assert woken == ["down"]


def test_what_waited_before_a_restart_was_down_then(shard):
    shard.outages.recover(1, "a", (ORIGIN,), shard.now)
    shard.outages.recover(2, "a", (ORIGIN,), shard.now)
    shard.told()
    assert shard.parks()
    assert shard.wake() == [1]


class Machine(RuleBasedStateMachine):
    """Nothing that waits is lost or woken twice, at most one probe is under way, and releases keep the ramp."""

    def __init__(self):
        super().__init__()
        self.shard = Shard()
        self.next = 0
        self.waiting = {}
        self.retrying = {}
        self.probes = {}

    flows = st.sampled_from(["a", "b", "x.c"])
    origins = st.sampled_from(["https://1.example", "https://2.example"])

    @rule(flow=flows, origin=origins, times=st.integers(1, 4), asked=st.sampled_from([0, 5000]))
    def fail(self, flow, origin, times, asked):
        self.shard.fail(flow, times, origin, retry_after_ms=asked)
        if self.probes.get(origin) == flow:
            del self.probes[origin]

    @rule(flow=flows, origin=origins)
    def succeed(self, flow, origin):
        self.shard.succeed(flow, origin)
        if self.probes.get(origin) == flow:
            del self.probes[origin]

    @rule(flow=flows, destinations=st.lists(origins, min_size=1, unique=True), times=st.integers(1, 30))
    def park(self, flow, destinations, times):
        for _ in range(times):
            self.next += 1
            self.waiting[self.next] = flow
            self.shard.park(self.next, flow=flow, origins=destinations)

    @rule(flow=flows, origin=origins, follows=st.booleans())
    def retry(self, flow, origin, follows):
        self.next += 1
        self.retrying[self.next] = flow
        self.shard.retry(self.next, flow=flow, origin=origin, follows=follows)

    @rule(index=st.integers(0, 20))
    def wake_by_time(self, index):
        if self.retrying:
            seq = sorted(self.retrying)[index % len(self.retrying)]
            del self.retrying[seq]
            self.shard.outages.leave(seq)

    @rule(index=st.integers(0, 20))
    def leave(self, index):
        if self.waiting:
            seq = sorted(self.waiting)[index % len(self.waiting)]
            del self.waiting[seq]
            self.shard.outages.leave(seq)

    @rule(origin=origins)
    def operate(self, origin):
        self.shard.outages.probe_now(origin, self.shard.now)

    @rule(after=st.sampled_from([0, 100, 1000, 10_000, 100_000]), limit=st.integers(1, 100))
    def wake(self, after, limit):
        self.shard.now += after
        open_before = {key for key, state in self.shard.known.items() if state is DestinationState.PARKS}
        found = self.shard.outages.wake(self.shard.now, limit)
        self.shard.told()
        assert len(found) <= limit + 2  # a probe of each destination beside them
        for seq, origin, failure, retry_key in found:
            if retry_key:
                flow = self.retrying.pop(seq)
                assert (flow, origin) in self.shard.known
                continue
            flow = self.waiting.pop(seq)
            assert not failure
            destination = self.shard.outages._destinations.get(origin)
            probe = None if destination is None else destination.probe
            if probe is not None and probe.seq == seq:
                assert (flow, origin) in open_before
                self.probes[origin] = flow

    @invariant()
    def all_are_known(self):
        assert self.shard.outages.waiting == len(self.waiting)
        assert self.shard.outages._retries.keys() == self.retrying.keys()

    def teardown(self):
        for flow, origin in [(f, o_) for f in ("a", "b", "x.c") for o_ in ("https://1.example", "https://2.example")]:
            self.shard.succeed(flow, origin)
        for _ in range(200):
            for each in self.shard.outages.wake(self.shard.now, 1000):
                del (self.retrying if each.retry_key else self.waiting)[each.seq]
            self.shard.now += 1000
        assert not self.waiting


TestOutages = Machine.TestCase
TestOutages.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
