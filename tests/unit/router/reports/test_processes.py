"""What is kept of what processes report, and how much of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from support.cases import cases
from support.clocks import Clock

from flowhook.errors import ConflictError, ExhaustedError, InvalidError, NotFoundError, PermissionDeniedError
from flowhook.limits import MAX_MESSAGE_BYTES, MIB
from flowhook.reporting.process_reports import (
    MAX_BUILD,
    MAX_DETAIL,
    MAX_HOST,
    MAX_METRICS_BYTES,
    MAX_METRICS_LINES,
    MAX_NAME,
    MAX_URL,
    MAX_WARNINGS_BYTES,
)
from flowhook.reporting.reported_metrics import check
from flowhook.security.tokens import BUILT_IN, TokenScope
from flowhook.sharing import Principal, current_principal
from flowhook.sharing.table import RouterLimits
from flowhook.v1 import cluster_service_pb2 as pb
from flowhook.wire import convert
from router.reports import processes
from router.reports.processes import (
    ALIVE_SECONDS,
    FORGET_SECONDS,
    MAX_PROCESSES,
    REPORTERS,
    ProcessReports,
)

ALL = frozenset(TokenScope)


def process(name="runner-1", role="runner", **fields):
    return pb.Process(name=name, role=role, build="0.1.0", pid=7, host="host", **fields)


def series(number, *, padding=0):
    lines = [b'm{number="%d",padding="%b"} 1.0\n' % (each, b"x" * padding) for each in range(number)]
    return b"# HELP m M.\n# TYPE m gauge\n" + b"".join(lines)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def retained(clock):
    return ProcessReports(clock)


@pytest.mark.parametrize(
    "report",
    [
        process(name=""),
        process(name="x" * 64),
        process(name="runner\n1"),
        process(role=""),
        process(role="observer"),
        process(url="http://" + "x" * 294),
        process(connections=-1),
        process(clock_skew=Duration(seconds=2**36)),
        process(clock_skew=Duration(seconds=-(2**36))),
        process(start_time=Timestamp(seconds=-1)),
        process(start_time=Timestamp(seconds=253_402_300_800)),
        process(start_time=Timestamp(nanos=-1)),
        process(detail="x" * 513),
        process(detail="\x1b[2J"),
        process(warnings=["\x1b[2J"]),
        process(warnings=["x"] * 9),
        process(warnings=["é" * 256, "é" * 257]),
        process(metrics=b"x" * (MAX_METRICS_BYTES + 1)),
        process(metrics=b"\n" * (MAX_METRICS_LINES + 1)),
        pb.Process(name="runner-1", role="runner", host="x" * 256),
        pb.Process(name="runner-1", role="runner", build="x" * 65),
        pb.Process(name="runner-1", role="runner", pid=-1),
    ],
)
def test_a_report_that_says_more_than_any_process_has_to_say_is_refused(retained, report):
    with pytest.raises(InvalidError) as caught:
        retained.store(report, ALL)
    assert caught.value.reason == "PROCESS_INVALID"
    assert retained.all() == []


def test_when_a_process_started_and_its_connections_are_retained(retained):
    start = Timestamp(seconds=1_700_000_000, nanos=5)
    retained.store(process("edge-1", "edge", start_time=start, connections=12), ALL)
    retained.store(process("edge-2", "edge", credit=7, in_flight=7), ALL)
    first, second = (report.process for report in retained.all())
    assert (first.start_time, first.connections) == (start, 12)
    assert not second.HasField("start_time")
    assert (second.credit, second.in_flight) == (0, 0)  # the router knows better


def test_fields_that_nobody_knows_are_not_retained(retained):
    unknown = b"\xfa\x3f" + b"\x80\x80\x80\x02" + bytes(4 * MIB)  # field 1023, as long as it says
    retained.store(pb.Process.FromString(process().SerializeToString() + unknown), ALL)
    (report,) = retained.all()
    assert report.process.ByteSize() < 100


@pytest.mark.parametrize(
    ("role", "scopes"),
    [
        ("edge", {TokenScope.INGEST}),
        ("runner", {TokenScope.INGEST}),
        ("edge", {TokenScope.RUN}),
        ("runner", {TokenScope.INGEST, TokenScope.VERIFY}),
        ("admin", {TokenScope.RUN}),
        ("router", {TokenScope.VERIFY, TokenScope.RUN, TokenScope.INGEST}),
    ],
)
def test_a_token_reports_for_its_own_role_only(retained, role, scopes):
    with pytest.raises(PermissionDeniedError) as caught:
        retained.store(process("it", role), scopes)
    assert caught.value.reason == "SCOPE_MISSING"


def test_each_process_may_report_with_the_token_that_is_made_for_it(retained):
    for role, token in (("edge", "edge"), ("runner", "runner"), ("admin", "view"), ("admin", "admin")):
        assert retained.store(process(f"{role}-1", role), BUILT_IN[token])


def test_a_process_of_another_role_does_not_take_the_place_of_one_with_its_name(retained):
    retained.store(process("edge-1", "edge", ready=True), {TokenScope.VERIFY})
    retained.store(process("edge-1", "runner"), {TokenScope.RUN})
    assert [(report.process.role, report.process.ready) for report in retained.all()] == [
        ("edge", True),
        ("runner", False),
    ]


def test_one_role_that_is_full_leaves_the_others_their_room(clock):
    retained = ProcessReports(clock, max_processes=3)
    for number in range(3):
        retained.store(process(f"runner-{number}"), {TokenScope.RUN})
    with pytest.raises(ExhaustedError) as caught:
        retained.store(process("runner-4"), {TokenScope.RUN})
    assert caught.value.reason == "TOO_MANY_PROCESSES"
    retained.store(process("runner-2", ready=True), {TokenScope.RUN})
    retained.store(process("edge-1", "edge"), {TokenScope.VERIFY})
    assert len(retained.all()) == 4


def test_metrics_that_find_no_room_are_left_out_and_the_process_is_known(retained):
    metrics = series(1000, padding=200)
    size = len(check(metrics, "runner-00", "runner").text)
    room = processes.MAX_METRICS_BYTES // size
    for number in range(room):
        assert retained.store(process(f"runner-{number:02}", metrics=metrics), ALL)
    assert not retained.store(process("late", metrics=metrics), ALL)
    assert retained.store(process("edge-1", "edge", metrics=metrics), ALL)
    assert retained.store(process("runner-00", metrics=metrics), ALL)  # its own make room
    sizes = {report.process.name: len(report.metrics) for report in retained.all()}
    assert (sizes.pop("late"), sizes.pop("edge-1") > 0, set(sizes.values())) == (0, True, {size})


def test_a_token_has_a_share_of_the_series_of_all(clock):
    retained = ProcessReports(clock, series=replace(RouterLimits().report_series, total=400, reserved=0))
    current_principal.set(Principal("token", "a"))
    assert retained.store(process("admin-1", "admin", metrics=series(60)), ALL)
    assert not retained.store(process("admin-2", "admin", metrics=series(60)), ALL)
    assert retained.store(process("admin-1", "admin", metrics=series(30)), ALL)  # in place of those before
    assert retained.store(process("admin-2", "admin", metrics=series(60)), ALL)
    current_principal.set(Principal("token", "b"))
    assert retained.store(process("admin-3", "admin", metrics=series(60)), ALL)
    clock.now += FORGET_SECONDS
    retained.all()
    current_principal.set(Principal("token", "a"))
    assert retained.store(process("admin-4", "admin", metrics=series(100)), ALL)


def test_metrics_that_nobody_can_parse_are_left_out_and_the_process_is_known(retained):
    assert not retained.store(process(metrics=b"not { a metric"), ALL)
    assert [report.metrics for report in retained.all()] == [b""]


def test_all_that_can_be_retained_fits_into_one_answer():
    texts = MAX_NAME + MAX_BUILD + MAX_HOST + MAX_DETAIL + MAX_URL
    fields = 4 * texts + MAX_WARNINGS_BYTES + 100  # characters of four bytes each, and what goes with them
    assert len(REPORTERS) * (processes.MAX_METRICS_BYTES + MAX_PROCESSES * fields) < MAX_MESSAGE_BYTES


def test_a_process_that_ended_in_order_is_forgotten_after_a_minute(retained, clock):
    retained.store(process(stopping=True), ALL)
    clock.now += FORGET_SECONDS - 1
    assert len(retained.all()) == 1
    clock.now += 1
    assert retained.all() == []


def test_a_process_that_died_is_shown_without_metrics_until_it_is_dismissed(retained, clock):
    retained.store(process(ready=True, metrics=series(1)), ALL)
    clock.now += FORGET_SECONDS
    [report] = retained.all()
    assert (report.process.name, report.metrics) == ("runner-1", b"")
    clock.now += 30 * 86_400
    assert len(retained.all()) == 1
    retained.dismiss("runner-1")
    assert retained.all() == []


def test_a_report_may_keep_the_metrics_of_the_one_before(retained, clock):
    retained.store(process(ready=False, metrics=series(1)), ALL)
    clock.now += 5
    assert retained.store(process(ready=True), ALL, keeps_metrics=True)
    [report] = retained.all()
    assert (report.process.ready, report.metrics.count(b"m{"), report.seen) == (True, 1, clock.now)
    assert retained.store(process("runner-2"), ALL, keeps_metrics=True)  # there are none, and it lives
    assert retained.store(process(), ALL)
    assert [report.metrics for report in retained.all()] == [b"", b""]


def test_a_process_that_died_is_dismissed_and_one_that_reports_is_not(retained, clock):
    retained.store(process(), ALL)
    with pytest.raises(ConflictError) as caught:
        retained.dismiss("runner-1")
    assert caught.value.reason == "PROCESS_ALIVE"
    clock.now += ALIVE_SECONDS
    retained.dismiss("runner-1")
    assert retained.all() == []
    with pytest.raises(NotFoundError) as caught:
        retained.dismiss("runner-1")
    assert caught.value.reason == "PROCESS_NOT_FOUND"
    retained.store(process(), ALL)
    assert len(retained.all()) == 1


def test_the_dead_give_way_to_the_living(clock):
    retained = ProcessReports(clock, max_processes=3)
    for number in range(9):  # a process that crashes again and again, under another name each time
        retained.store(process(f"runner-{number}"), ALL)
        clock.now += FORGET_SECONDS
    assert [report.process.name for report in retained.all()] == ["runner-6", "runner-7", "runner-8"]


@cases(
    ("ahead", "skew"),
    [
        ([], 0),
        ([-60], 0),  # nobody knows which of the two is wrong
        ([-60, -59.5], 60),  # by their clocks, which are behind the router's
        ([60, 59.5, 60.1, 60, 0, 0], -60),
        ([0, 0.3, -60], 0),
        ([0, 0, -60, -60, -60], 0),  # with the router's, as many as agree
        ([0.9, 0.9, 0.9], 0),
        ([-60, 60, 0], 0),
    ],
)
def test_the_routers_clock_is_wrong_if_most_others_agree_with_each_other_and_not_with_it(ahead, skew):
    reports = ProcessReports(Clock())
    for number, seconds in enumerate(ahead):
        reports.store(process(f"runner-{number}", clock_skew=convert.duration(seconds)), ALL)
    assert reports.router_skew() == pytest.approx(skew, abs=0.6)


def test_a_process_that_is_silent_does_not_judge_the_routers_clock():
    reports = ProcessReports(clock := Clock())
    for number in range(3):
        reports.store(process(f"runner-{number}", clock_skew=convert.duration(60)), ALL)
    clock.now += ALIVE_SECONDS
    assert reports.router_skew() == 0
