"""What a subscription consumes, when it acknowledges, and that a crash repeats nothing that the journal has."""

from __future__ import annotations

import pytest

from flowhook import limits
from runner.interpreter.effects import EffectResult
from runner.interpreter.errors import Kind, error

DOCUMENT = {"endpoint": "https://docs.example/asyncapi.json"}


def subscribe(consume, **more):
    subscription = {"consume": consume, **more}
    arguments = {"document": DOCUMENT, "operation": "follow", "subscription": subscription}
    return [{"s": {"call": "asyncapi", "with": arguments}}]


class Broker:
    """Hands out messages with the numbers from 1 on, and notes what is acknowledged; `until` ends subscriptions."""

    def __init__(self, *, until=None, silent=()):
        self.next, self.held, self.acknowledged, self.released = 1, None, [], []
        self.until, self.silent = until, list(silent)

    def answer(self, effect):
        state = effect.arguments["subscription"]
        if state["last"] is not None and self.held == state["last"]["nonce"]:
            self.acknowledged.append(self.held)
            self.held = None
        if state["release"]:
            self.released.append(state["name"])
        if not state["seconds"]:
            return {"message": None, "token": None, "ended": False}
        if self.until is not None and self.next > self.until:
            return {"message": None, "token": None, "ended": True}
        if self.held is None:
            self.held, self.next = self.next, self.next + 1
        if self.held in self.silent:
            self.silent.remove(self.held)
            self.next, self.held = self.held, None
            return {"message": None, "token": None, "ended": False}
        token = {"nonce": self.held, "identity": None}
        return {"message": {"payload": {"n": self.held}, "headers": {}}, "token": token, "ended": False}


@pytest.fixture
def follow(execute):
    def run(do, broker=None, data=None, **more):
        broker = broker or Broker()
        world = execute.World({"asyncapi.subscribe": broker.answer})
        outcome = execute(do, data or {}, world=world, **more)
        outcome.broker = broker
        return outcome

    return run


def numbers(outcome):
    return [message["payload"]["n"] for message in outcome.output]


@pytest.mark.parametrize(
    ("consume", "consumed"),
    [
        ({"amount": 3}, [1, 2, 3]),
        ({"until": "${ length == 2 }"}, [1, 2]),
        ({"until": ".[-1].payload.n == 3"}, [1, 2, 3]),
        ({"while": "${ length < 2 }"}, [1, 2]),
        ({"while": "${ false }"}, []),
        ({"amount": 5, "while": "length < 4", "until": "length > 2"}, [1, 2, 3]),
    ],
)
def test_a_subscription_lasts_as_it_says(follow, consume, consumed):
    outcome = follow(subscribe(consume))
    assert numbers(outcome) == outcome.broker.acknowledged == consumed
    assert len(outcome.broker.released) == 1


def test_a_filter_drops_messages_which_are_acknowledged_all_the_same(follow):
    outcome = follow(subscribe({"amount": 2}, filter="${ .payload.n % 2 == $input.odd }"), data={"odd": 0})
    assert numbers(outcome) == [2, 4]
    assert outcome.broker.acknowledged == [1, 2, 3, 4]


def test_silence_is_waited_out_and_time_ends_a_subscription(follow):
    outcome = follow(subscribe({"amount": 9, "for": {"minutes": 5}}), Broker(until=2, silent=[2, 2]))
    assert numbers(outcome) == outcome.broker.acknowledged == [1, 2]
    states = [effect.arguments["subscription"] for effect in outcome.world.performed]
    assert {state["until_ms"] for state in states} == {1_700_000_001_000 + 300_000}
    assert len({state["name"] for state in states}) == 1
    assert states[0]["name"].startswith("flowhook-")


def test_foreach_runs_after_the_message_is_acknowledged_and_its_output_counts(follow):
    foreach = {
        "item": "message",
        "at": "number",
        "do": [{"work": {"call": "f", "with": {"n": "${ $message.payload.n }", "at": "${ $number }"}}}],
        "output": {"as": "${ {done: $message.payload.n} }"},
        "export": {"as": "${ $context + {last: $message.payload.n} }"},
    }
    broker = Broker()
    outcome = follow(subscribe({"until": "${ $context.last == 2 }"}, foreach=foreach), broker)
    calls = [effect for effect in outcome.world.performed if effect.function == "f"]
    assert outcome.output == [{"done": 1}, {"done": 2}]
    assert [effect.arguments for effect in calls] == [{"n": 1, "at": 0}, {"n": 2, "at": 1}]
    assert [effect.key for effect in calls] == [
        "/do/0/s/with/subscription/foreach/do/0/work[0]#0",
        "/do/0/s/with/subscription/foreach/do/0/work[1]#0",
    ]
    functions = [effect.function for effect in outcome.world.performed]
    assert functions == [*["asyncapi.subscribe", "asyncapi.subscribe", "f"] * 2, "asyncapi.subscribe"]
    assert broker.acknowledged == [1, 2]


@pytest.mark.parametrize("foreach", [None, {"do": [{"work": {"call": "f"}}]}])
def test_wherever_it_stops_it_goes_on_and_repeats_no_effect(follow, foreach):
    do = subscribe({"amount": 3}, **({} if foreach is None else {"foreach": foreach}))
    whole = follow(do)
    keys = [effect.key for effect in whole.world.performed]
    assert len(set(keys)) == len(keys)
    for cut in range(1, len(whole.journal)):
        before = follow(do, stop_after=cut)
        after = follow(do, before.broker, journal=before.journal)
        performed = [effect.key for effect in (*before.world.performed, *after.world.performed)]
        assert performed == keys
        assert after.broker.acknowledged == [1, 2, 3]
        assert len(after.output) == 3


def test_a_subscription_may_have_more_messages_than_a_journal_has_entries(follow):
    amount = 2 * limits.MAX_JOURNAL_ENTRIES
    do = subscribe({"amount": amount}, foreach={"output": {"as": "${ null }"}})
    outcome = follow(do)
    assert outcome.output == [None] * amount
    assert len({effect.key for effect in outcome.world.performed}) == len(outcome.world.performed)


def test_a_failure_is_retried_and_one_that_lasts_is_a_fault(follow, execute):
    failures = [EffectResult(None, error(Kind.COMMUNICATION, "away", status=503))] * 2
    broker = Broker()

    def answer(effect):
        return failures.pop() if failures else broker.answer(effect)

    world = execute.World({"asyncapi.subscribe": answer})
    do = subscribe({"amount": 1})
    do[0]["s"]["metadata"] = {"retry": {"limit": {"attempt": {"count": 2}}}}
    assert len(execute(do, {}, world=world).output) == 1

    away = EffectResult(None, error(Kind.AUTHENTICATION, "refused"))
    assert execute(do, {}, world=execute.World({"asyncapi.subscribe": away})).error.status == 401


def test_what_it_consumed_is_limited(follow):
    big = "x" * (limits.MAX_RESULT_BYTES // 3)
    foreach = {"output": {"as": f'${{ "{big}" }}'}}
    assert follow(subscribe({"amount": 4}, foreach=foreach)).error.detail == (
        f"the task's output has more than {limits.MAX_RESULT_BYTES} bytes as JSON"
    )
