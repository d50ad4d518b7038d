"""Which events a `listen` takes, what it makes of them, and that a replay comes to the same."""

from __future__ import annotations

import orjson
import pytest

from flowhook import limits
from flowhook.events.lifecycle import TYPES
from flowhook.model import ERROR_TYPE_BASE, SNAPSHOT_KEY, Correlation, EventFilter, JournalEntry
from runner.interpreter import journal

KEY = "/do/0/l#0:event"
CALLBACK_KEY = "/do/0/l#0:callback"
WEBHOOK = {"callbacks": {"approval": {}}}


def event(kind, data=None, **more):
    return {"specversion": "1.0", "id": "1", "source": "/s", "type": kind, "data": data, **more}


def arrivals(*events, key=KEY):
    return tuple(JournalEntry(key, orjson.dumps(each)) for each in events)


def listen(to, read="data", **more):
    return [{"l": {"listen": {"to": to, "read": read}, **more}}]


def one(kind, **more):
    return {"one": {"with": {"type": kind, **more}}}


def waiting(outcome):
    """What an execution that did not end waits for: filters by key."""
    assert outcome.step is None, outcome.step
    return {subscription.key: subscription.filters for subscription in outcome.subscriptions}


def test_one_waits_for_an_event_and_yields_an_array_of_its_data(execute):
    do = listen(one("paid", source="/shop", data="${ .n > 1 }"))
    assert waiting(execute(do, {})) == {KEY: (EventFilter(False, "paid", (("source", "/shop"),)),)}
    assert waiting(execute(do, {}, journal=arrivals(event("paid", {"n": 1}, source="/shop"))))
    arrived = arrivals(event("paid", {"n": 1}, source="/shop"), event("paid", {"n": 2}, source="/shop"))
    assert execute(do, {}, journal=arrived).output == [{"n": 2}]


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        ({"type": "paid"}, True),
        ({"type": "lost"}, False),
        ({"source": "/s", "id": "1"}, True),
        ({"subject": "x"}, False),
        ({"subject": "${ . == null }"}, True),
        ({"type": '${ startswith("pa") }'}, True),
        ({"type": '${ "pa" + "id" }'}, True),
        ({"type": '${ "un" + "paid" }'}, False),
        ({"type": "p.*d"}, True),
        ({"type": "(lost|paid)"}, True),
        ({"type": "p.*"}, True),
        ({"type": "ai.*"}, False),
        ({"type": "pa"}, False),
        ({"type": "pai."}, False),
        ({"source": "/[a-z]"}, True),
        ({"subject": ".*"}, False),
        ({"odd": "a+b (c)"}, True),
        ({"number": "[0-9]+"}, True),
        ({"number": "[a-z]+"}, False),
        ({"source": "${ $context.source }"}, True),
        ({"number": "7"}, True),
        ({"number": "${ . > 6 }"}, True),
        ({"data": "${ .n == 1 and .m.k == true }"}, True),
        ({"data": "${ .n + 1 }"}, False),
        ({"data": "${ .n | keys }"}, False),
        ({"data": {"n": 1.0}}, True),
        ({"data": {"n": True}}, False),
        ({"data": {"m": {"k": True}, "list": [1, "${ $input.two }"]}}, True),
        ({"data": {"list": [1]}}, False),
        ({"data": {"none": None}}, False),
    ],
)
def test_an_event_has_to_have_what_a_filter_requests(execute, wanted, taken):
    data = {"n": 1, "m": {"k": True, "j": 2}, "list": [1, 2]}
    do = listen({"one": {"with": wanted}})
    outcome = execute(do, {"source": "/s", "two": 2}, journal=arrivals(event("paid", data, number=7, odd="a+b (c)")))
    assert (outcome.output == [data]) if taken else waiting(outcome)


def test_the_router_gets_no_regular_expressions(execute):
    do = listen(one("pa.*", source="/shop", subject="[0-9]+"))
    assert waiting(execute(do, {})) == {KEY: (EventFilter(False, "", (("source", "/shop"),)),)}


FAULTED = "io.serverlessworkflow.workflow.faulted.v1"
WORKFLOW_TYPES = tuple(sorted(type_ for type_ in TYPES if type_.startswith("io.serverlessworkflow.workflow.")))


@pytest.mark.parametrize(
    ("type_", "requested"),
    [
        ("${ $context.type }", (FAULTED,)),
        ('${ "io.serverlessworkflow.workflow." + "faulted.v1" }', (FAULTED,)),
        ('${ . == "io.serverlessworkflow.workflow.faulted.v1" }', (FAULTED,)),
        ('${ startswith("io.serverlessworkflow.workflow.") }', WORKFLOW_TYPES),
        (r"io\.serverlessworkflow\.workflow\.faulted\.v\d+", (FAULTED,)),
        ("io.serverlessworkflow.workflow.*", WORKFLOW_TYPES),
        ('${ . != "paid" }', ()),
        ("${ . }", ()),
        ("${ .n }", ()),
        (".*", ()),
    ],
)
def test_events_about_executions_are_requested_by_whatever_names_them(execute, type_, requested):
    (filters,) = waiting(execute(listen(one(type_)), {"type": FAULTED})).values()
    assert [each.type for each in filters] == ["", *requested]
    if FAULTED in requested:
        arrived = execute(listen(one(type_)), {"type": FAULTED}, journal=arrivals(event(FAULTED, {"n": 1})))
        assert arrived.output == [{"n": 1}]


def test_a_type_of_which_nothing_is_ever_reported_is_not_waited_for(execute):
    outcome = execute(listen(one("${ $context.type }")), {"type": FAULTED.replace("v1", "v2")})
    assert (outcome.error.type, outcome.error.instance) == (f"{ERROR_TYPE_BASE}expression", "/do/0/l")
    assert FAULTED.replace("v1", "v2") in outcome.error.detail


def test_more_filters_than_the_router_takes_are_a_fault(execute):
    def of(count):
        half = [{"with": {"type": f"a{number}"}} for number in range(limits.MAX_EVENT_FILTERS // 2)]
        rest = [{"with": {"type": f"b{number}"}} for number in range(count - len(half))]
        return listen({"any": half, "until": {"any": rest}})

    (filters,) = waiting(execute(of(limits.MAX_EVENT_FILTERS), {})).values()
    assert len(filters) == limits.MAX_EVENT_FILTERS
    error = execute(of(limits.MAX_EVENT_FILTERS + 1), {}).error
    assert (error.type, error.instance) == (f"{ERROR_TYPE_BASE}runtime", "/do/0/l")


@pytest.mark.parametrize(
    ("read", "more", "expected"),
    [
        ("data", {"data": {"n": 1}}, {"n": 1}),
        ("raw", {"data": {"n": 1}}, '{"n":1}'),
        ("raw", {"data": "text"}, "text"),
        ("raw", {"data_base64": "/w=="}, "/w=="),
        ("data", {"data_base64": "eyJuIjoxfQ==", "datacontenttype": "application/json"}, {"n": 1}),
        ("data", {"data_base64": "aGk=", "datacontenttype": "text/plain"}, "hi"),
        ("data", {"data_base64": "/w=="}, "/w=="),
        ("data", {}, None),
        ("raw", {}, None),
        ("envelope", {"data": 1}, {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": 1}),
    ],
)
def test_what_is_read_of_an_event(execute, read, more, expected):
    arrived = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", **more}
    assert execute(listen(one("t"), read), {}, journal=arrivals(arrived)).output == [expected]


def test_any_takes_the_first_event_that_one_of_its_filters_takes(execute):
    do = listen({"any": [one("a")["one"], one("b", data="${ .ok }")["one"]]})
    assert waiting(execute(do, {})) == {KEY: (EventFilter(False, "a"), EventFilter(False, "b"))}
    arrived = arrivals(event("b", {"ok": False}), event("b", {"ok": True}))
    assert execute(do, {}, journal=arrived).output == [{"ok": True}]


def test_any_of_none_takes_every_event_that_is_emitted(execute):
    assert waiting(execute(listen({"any": []}), {}, webhook=WEBHOOK)) == {KEY: (EventFilter(False, ""),)}
    assert execute(listen({"any": []}), {}, journal=arrivals(event("x", 5))).output == [5]


def test_all_waits_for_an_event_for_each_filter_in_whatever_order_they_come(execute):
    do = listen({"all": [one("a")["one"], one("b")["one"], one("a")["one"]]})
    assert waiting(execute(do, {})) == {KEY: (EventFilter(False, "a"), EventFilter(False, "b"))}
    some = arrivals(event("a", 1), event("a", 2), event("a", 3))
    assert waiting(execute(do, {}, journal=some)) == {KEY: (EventFilter(False, "b"),)}
    assert execute(do, {}, journal=(*some, *arrivals(event("b", 4)))).output == [1, 2, 4]


def test_any_goes_on_until_an_expression_over_what_arrived_is_true(execute):
    do = listen({"any": [one("a")["one"]], "until": "( . | length ) > 2 #enough"})
    assert waiting(execute(do, {}, journal=arrivals(event("a", 1), event("a", 2))))
    assert execute(do, {}, journal=arrivals(event("a", 1), event("a", 2), event("a", 3))).output == [1, 2, 3]


def test_any_goes_on_until_events_come_that_are_not_part_of_the_output(execute):
    until = {"all": [one("left")["one"], one("gone")["one"]]}
    do = listen({"any": [], "until": until})
    assert waiting(execute(do, {}))[KEY] == tuple(EventFilter(False, kind) for kind in ("", "left", "gone"))
    arrived = arrivals(event("a", 1), event("gone", 2), event("gone", 3))
    assert waiting(execute(do, {}, journal=arrived))[KEY] == (EventFilter(False, ""), EventFilter(False, "left"))
    assert execute(do, {}, journal=(*arrived, *arrivals(event("left", 4)))).output == [1, 3]


def test_a_correlation_with_an_expectation_is_matched_by_the_router_and_here(execute):
    correlate = {"order": {"from": "${ .data.order }", "expect": "${ $context.order }"}}
    do = listen({"one": {"with": {"type": "paid"}, "correlate": correlate}})
    filters = (EventFilter(False, "paid", (), (Correlation(".data.order", b"5"),)),)
    assert waiting(execute(do, {"order": 5})) == {KEY: filters}
    assert waiting(execute(do, {"order": 5}, journal=arrivals(event("paid", {"order": "5"}))))
    arrived = arrivals(event("paid", {"order": 5.0}))
    assert execute(do, {"order": 5}, journal=arrived).output == [{"order": 5.0}]


@pytest.mark.parametrize("expect", ["${ $context.none }", '${ "x" * 2000 }'])
def test_an_expectation_that_reports_nothing_apart_is_an_expression_error(execute, expect):
    correlate = {"order": {"from": ".data.order", "expect": expect}}
    outcome = execute(listen({"one": {"with": {"type": "paid"}, "correlate": correlate}}), {})
    assert (outcome.error.type.rpartition("/")[2], outcome.error.instance) == ("expression", "/do/0/l")


def test_without_an_expectation_the_first_event_fixes_the_value_for_the_others(execute):
    filters = [
        {"with": {"type": kind}, "correlate": {"order": {"from": f".data.{path}"}}} for kind, path in ("ab", "bc", "cd")
    ]
    do = listen({"all": filters})
    arrived = arrivals(event("b", {"x": 1}), event("b", {"c": 7}))
    fixed = {kind: (Correlation(f".data.{path}", b"7"),) for kind, path in ("ab", "cd")}
    assert waiting(execute(do, {}, journal=arrived))[KEY] == tuple(
        EventFilter(False, kind, (), correlations) for kind, correlations in fixed.items()
    )
    others = arrivals(event("a", {"b": 8}), event("a", {"b": 7}), event("c", {"d": 7}))
    assert execute(do, {}, journal=(*arrived, *others)).output == [{"c": 7}, {"b": 7}, {"d": 7}]


def test_an_expectation_holds_for_all_filters_that_have_its_name(execute):
    strategy = {
        "any": [{"with": {"type": "measured"}, "correlate": {"who": {"from": ".data.who", "expect": "${ .patient }"}}}],
        "until": {"one": {"with": {"type": "left"}, "correlate": {"who": {"from": ".subject"}}}},
    }
    arrived = arrivals(event("measured", {"who": "p"}), event("left", 1, subject="q"), event("left", 2, subject="p"))
    assert execute(listen(strategy), {"patient": "p"}, journal=arrived).output == [{"who": "p"}]


def test_a_filter_with_the_name_of_a_callback_is_for_callbacks_alone(execute):
    do = listen({"any": [one("approval")["one"], {"with": {"source": "${ true }"}}]})
    outcome = execute(do, {}, webhook=WEBHOOK)
    assert waiting(outcome) == {KEY: (EventFilter(False, ""),), CALLBACK_KEY: (EventFilter(True, "approval"),)}
    only = listen({"any": [one("approval")["one"], one("other", data="${ false }")["one"]]})
    emitted = arrivals(event("approval", "forged"))
    assert waiting(execute(only, {}, webhook=WEBHOOK, journal=emitted))
    called = arrivals(event("approval", "true"), key=CALLBACK_KEY)
    assert execute(only, {}, webhook=WEBHOOK, journal=(*emitted, *called)).output == ["true"]


def test_a_callback_by_a_one_time_url_needs_no_correlation_and_an_emitted_event_can_not_say_so(execute):
    correlate = {"order": {"from": ".data.order", "expect": "A"}}
    do = listen({"any": [{"with": {"type": kind}, "correlate": correlate} for kind in ("approval", "told")]})
    emitted = arrivals(event("told", {}, onetime=True))
    called = arrivals(event("approval", {"yes": 1}, onetime=True), key=CALLBACK_KEY)
    assert execute(do, {}, webhook=WEBHOOK, journal=(*emitted, *called)).output == [{"yes": 1}]


FOREACH = {
    "item": "e",
    "at": "i",
    "do": [{"ask": {"call": "f", "with": {"e": "${ $e }"}}}, {"sum": {"set": {"n": "${ $context.n + $e }"}}}],
    "output": {"as": "${ {i: $i, e: $e, n: .n} }"},
    "export": {"as": "${ {n: .n} }"},
}


def test_foreach_runs_tasks_for_each_event_in_order(execute):
    world = execute.World()
    do = listen({"any": [], "until": "$context.n > 5"}, foreach=FOREACH)
    arrived = arrivals(event("a", 1))
    for number in (2, 3):
        arrived = execute(do, {"n": 0}, world=world, journal=arrived).journal + arrivals(event("a", number))
    outcome = execute(do, {"n": 0}, world=world, journal=arrived)
    assert outcome.output == [{"i": 0, "e": 1, "n": 1}, {"i": 1, "e": 2, "n": 3}, {"i": 2, "e": 3, "n": 6}]
    keys = [f"/do/0/l/foreach/do/0/ask[{index}]#0" for index in range(3)]
    assert [effect.key for effect in world.performed] == keys
    assert [entry.key for entry in outcome.journal] == [KEY, keys[0], KEY, keys[1], KEY, keys[2]]


def test_the_tasks_of_foreach_work_on_the_event_and_may_end_the_flow(execute):
    tasks = [{"s": {"set": {"seen": "${ . }"}}}, {"q": {"switch": [{"c": {"when": ".seen > 1", "then": "end"}}]}}]
    do = [*listen({"any": [], "until": "false"}, foreach={"do": tasks}), {"never": {"set": {"x": 1}}}]
    assert execute(do, {}, journal=arrivals(event("a", 1), event("a", 2))).output == [{"seen": 1}, {"seen": 2}]


def test_a_timeout_ends_the_waiting_and_can_be_caught(execute):
    do = [{"t": {"try": listen(one("a"), timeout={"after": {"hours": 1}}), "catch": {"errors": {"with": {}}}}}]
    do[0]["t"]["catch"] = {"errors": {"with": {"status": 408}}, "do": [{"s": {"set": {"late": True}}}]}
    clock = execute.Clock()
    began = clock.now
    outcome = execute(do, {}, clock=clock)
    assert (outcome.output, clock.now) == ({"late": True}, began + 3_600_000)
    parked = execute(do, {}, stop_after=1)
    arrived = JournalEntry("/do/0/t/try/0/l#0:event", orjson.dumps(event("a", 1)))
    assert execute(do, {}, journal=(*parked.journal, arrived)).output == [1]


def test_who_wins_a_race_of_events_is_decided_by_the_journal(execute):
    branches = [{"x": listen(one("a"))[0]["l"]}, {"y": listen(one("b"))[0]["l"]}, {"z": {"wait": {"hours": 1}}}]
    do = [{"race": {"fork": {"compete": True, "branches": branches}}}]
    x, y = (f"/do/0/race/fork/branches/{place}#0:event" for place in ("0/x", "1/y"))
    outcome = execute(do, {}, stop_after=1)
    assert list(waiting(outcome)) == [x, y]
    for key in (x, y):
        arrived = arrivals(event("a" if key == x else "b", key), key=key)
        assert execute(do, {}, journal=(*outcome.journal, *arrived)).output == [key]
    assert execute(do, {"n": 1}).output == {"n": 1}


def test_listens_are_requested_together_with_effects(execute):
    do = [{"both": {"fork": {"branches": [listen(one("a"))[0], {"c": {"call": "f"}}]}}}]
    outcome = execute(do, {}, stop_after=0)
    assert list(waiting(outcome)) == ["/do/0/both/fork/branches/0/l#0:event"]
    assert [effect.function for effect in outcome.performing] == ["f"]


STRATEGIES = {
    "any": ({"any": [one("a")["one"], one("b")["one"]], "until": "length == 4"}, "abxbza"),
    "all": ({"all": [one(kind)["one"] for kind in "abc"]}, "bbacc"),
    "until events": ({"any": [], "until": {"all": [one("x")["one"], one("z")["one"]]}}, "abxbz"),
    "correlated": (
        {"all": [{"with": {"type": kind}, "correlate": {"n": {"from": ".data.n"}}} for kind in "abc"]},
        "bac",
    ),
}


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_replay_of_any_part_of_the_journal_comes_to_the_same(execute, name):
    strategy, kinds = STRATEGIES[name]
    tasks = [{"ask": {"call": "f"}}, {"rest": {"wait": {"seconds": 1}}}, {"put": {"set": {"n": "${ $item.n }"}}}]
    do = [
        *listen(strategy, foreach={"do": tasks, "export": {"as": "${ {last: .n} }"}}),
        {"after": {"call": "g", "output": {"as": "$input"}}},
    ]
    arrived = [event(kind, {"n": 1}) for kind in kinds]

    def run(journal, queue, world):
        outcome = execute(do, {}, journal=journal, world=world)
        while outcome.step is None:
            outcome = execute(do, {}, journal=(*outcome.journal, *arrivals(queue.pop(0))), world=world)
        return outcome

    world = execute.World({"f": {"n": 1}})
    whole = run((), list(arrived), world)
    for end in range(len(whole.journal)):
        retained = whole.journal[:end]
        seen = sum(entry.key == KEY for entry in retained)
        again = execute.World({"f": {"n": 1}})
        outcome = run(retained, arrived[seen:], again)
        assert [entry.key for entry in outcome.journal] == [entry.key for entry in whole.journal]
        assert outcome.output == whole.output
        done = {entry.key for entry in retained}
        assert [effect.key for effect in again.performed] == [
            effect.key for effect in world.performed if effect.key not in done
        ]


@pytest.fixture
def short(monkeypatch):
    """Have journals be long, and full, sooner."""
    monkeypatch.setattr(journal, "COMPACT_ENTRIES", 10)
    monkeypatch.setattr(limits, "MAX_JOURNAL_ENTRIES", 20)


def feed(execute, do, data, arrived, world=None):
    """Run until it ends, an event at a time, with no more of the journal than a router keeps."""
    retained = ()
    for count, each in enumerate(arrived):
        outcome = execute(do, data, world=world, journal=retained)
        if outcome.step is not None:
            return outcome, count
        retained = (*outcome.journal, *arrivals(each))
        retained = retained[
            max((index for index, entry in enumerate(retained) if entry.key == SNAPSHOT_KEY), default=0) :
        ]
    raise AssertionError("it does not end")


def test_a_long_listen_is_compacted_although_it_takes_little_of_what_comes(execute, short):
    correlate = {"n": {"from": ".data.n"}}
    do = listen({"any": [{"with": {"type": "a", "data": "${ .ok }"}, "correlate": correlate}], "until": "length == 3"})
    arrived = [event("a", {"n": number % 3, "ok": number % 10 == 1}) for number in range(200)]
    outcome, count = feed(execute, do, {}, arrived)
    assert (outcome.output, count) == ([{"n": 1, "ok": True}] * 3, 62)


def test_more_events_than_a_journal_has_entries_can_be_processed_one_by_one(execute, short):
    do = listen({"any": [], "until": "$context.n == 60"}, foreach=FOREACH)
    world = execute.World()
    outcome, _ = feed(execute, do, {"n": 0}, [event("a", 1)] * 61, world)
    assert outcome.output == [{"i": index, "e": 1, "n": index + 1} for index in range(60)]
    assert len({effect.key for effect in world.performed}) == len(world.performed) == 60


def test_what_a_listen_takes_in_is_bounded(execute, monkeypatch):
    monkeypatch.setattr(limits, "MAX_RESULT_BYTES", 100)
    arrived = arrivals(*(event("a", "x" * 50) for _ in range(2)))
    outcome = execute(listen({"any": [], "until": "false"}), {}, journal=arrived)
    assert outcome.error.status == 500
    assert "more than 100 bytes" in outcome.error.detail


def test_what_is_waited_for_is_bounded(execute, monkeypatch):
    branches = [{f"b{number}": listen(one("a" * 50))[0]["l"]} for number in range(20)]
    do = [{"f": {"fork": {"branches": branches}}}]
    assert len(waiting(execute(do, {}))) == 20
    monkeypatch.setattr(limits, "MAX_SUBSCRIPTION_BYTES", 1000)
    problem = execute(do, {}).error
    assert (problem.status, problem.instance) == (500, "/do/0/f/fork/branches/0/b0")
    assert "at most 1000 bytes" in problem.detail
    monkeypatch.setattr(limits, "MAX_JOURNAL_ENTRIES", 10)
    assert "journal is full" in execute(do, {}).error.detail


def test_an_entry_that_holds_no_event_diverged(execute):
    outcome = execute(listen(one("a")), {}, journal=(JournalEntry(KEY, b"[1]"),))
    assert "diverged" in outcome.error.detail
