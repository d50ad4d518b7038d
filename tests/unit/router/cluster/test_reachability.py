"""Reports of edges and runners: one voice for each process, as long as it is fresh; and what operators are told."""

import pytest
from support.cases import cases

from flowhook.errors import ConflictError, ExhaustedError, NotFoundError
from flowhook.reporting.reachability import describe_unreachable
from router.cluster.ownership import KnownOwner
from router.cluster.reachability import FRESH_SECONDS, ReachabilityReports, Voices
from router.cluster.records import MAX_UNREACHABLE, MemberState, RouterRecord, Unreachable
from router.cluster.shard_map import ASKED_SECONDS, LIVE_SECONDS, HandOverRequest, ShardSituation, choose_successor


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reports(clock):
    return ReachabilityReports(clock, max_processes=2)


def test_a_process_has_one_voice(reports):
    for _ in range(3):
        reports.store("edge", "edge-1", {"r1": "refused", "r2": ""})
    reports.store("runner", "edge-1", {"r1": "", "r2": ""})  # another process: names are unique within a role
    assert (reports.voices("r1"), reports.voices("r2")) == (Voices(1, 1), Voices(2, 0))
    assert reports.unreachable("r1") == [Unreachable("r1", "edge-1", "refused")]
    assert reports.voices("r3") == Voices(0, 0)


def test_the_latest_report_counts_and_only_while_it_is_fresh(reports, clock):
    reports.store("edge", "edge-1", {"r1": "refused"})
    reports.store("edge", "edge-1", {"r1": ""})
    assert reports.voices("r1") == Voices(1, 0)
    clock.now = FRESH_SECONDS + 0.1
    assert reports.voices("r1") == Voices(0, 0)


def test_there_is_room_for_a_number_of_processes_of_each_role(reports, clock):
    reports.store("edge", "edge-1", {})
    reports.store("edge", "edge-2", {})
    with pytest.raises(ExhaustedError):
        reports.store("edge", "edge-3", {})
    reports.store("edge", "edge-2", {"r1": ""})
    reports.store("runner", "runner-1", {})
    clock.now = FRESH_SECONDS + 0.1
    reports.store("edge", "edge-3", {})


def test_a_sentence_names_the_address_the_processes_and_the_causes():
    causes = {f"edge-{number}": "connection refused" for number in range(1, 8)} | {"r2": "no answer within 3 s"}
    assert describe_unreachable("r1", "10.0.0.5:50051", causes) == (
        "r1 is not reachable at 10.0.0.5:50051"
        " (edge-1, edge-2, edge-3, edge-4, edge-5 and 2 more can't connect: connection refused;"
        " r2 can't connect: no answer within 3 s); check its FLOWHOOK_ADVERTISE and the network"
    )
    assert describe_unreachable("r1", "10.0.0.5:50051", {}) == ""


def record(router, *, candidate=True, **fields):
    return RouterRecord(router, f"{router}:1", "1", MemberState.FOLLOWING, 4, 0, 9, candidate, **fields)


OWNER = KnownOwner("r1", "r1:1", 4, serving=True)


def situation(*standbys, silence=0.0, unreachable=()):
    owner = RouterRecord("r1", "r1:1", "1", MemberState.SERVING, 4, 0, 9, candidate=False)
    return ShardSituation(OWNER, [(owner, 0.0), *((each, silence) for each in standbys)], list(unreachable))


def test_a_hand_over_goes_to_the_standby_that_is_named_or_to_the_one_that_is_reached_by_most():
    copies = situation(record("r2", reach=1), record("r3", reach=5), record("r4", reach=9, candidate=False))
    assert choose_successor("r2", OWNER, copies) == "r2"
    assert choose_successor("", OWNER, copies) == "r3"
    cut_off = [Unreachable("r3", process, "refused") for process in ("r1", "r2", "r4", *"abcdef")]
    copies = situation(record("r2", reach=1), record("r3", reach=5), unreachable=cut_off)
    assert choose_successor("", OWNER, copies) == "r2"


@cases(
    ("router", "copies", "error", "reason"),
    [
        ("r1", situation(record("r2")), ConflictError, "ALREADY_OWNER"),
        ("r3", situation(record("r2")), NotFoundError, "ROUTER_UNKNOWN"),
        ("r2", situation(record("r2"), silence=LIVE_SECONDS + 1), NotFoundError, "ROUTER_UNKNOWN"),
        ("r2", situation(record("r2", candidate=False)), ConflictError, "STANDBY_NOT_READY"),
        ("", situation(record("r2", candidate=False)), ConflictError, "STANDBY_NOT_READY"),
        ("", situation(), ConflictError, "STANDBY_NOT_READY"),
    ],
)
def test_what_is_impossible_is_refused(router, copies, error, reason):
    with pytest.raises(error) as raised:
        choose_successor(router, OWNER, copies)
    assert raised.value.reason == reason


def test_a_request_is_passed_on_for_its_ownership_and_for_a_while():
    asked = record("r2", asked_epoch=4, asked_successor="r3", asked_by="admin")
    request = HandOverRequest.of(asked, 4, 1.0)
    assert request == HandOverRequest(4, "r3", "admin", 1.0, "r2")
    assert HandOverRequest.of(asked, 5, 1.0) is None
    assert HandOverRequest.of(record("r2"), 0, 1.0) is None
    assert not request.is_over(4, 1.0)
    assert request.is_over(5, 1.0)
    assert request.is_over(4, 1.1 + ASKED_SECONDS)


def test_heartbeats_carry_what_is_unreachable_and_no_more_than_fits():
    found = tuple(Unreachable("r1", f"edge-{number}", "refused") for number in range(MAX_UNREACHABLE))
    full = record("r2", unreachable=found, reach=3, cut_off=2, successor="r3", instance="i")
    assert RouterRecord.decode(full.encode()) == full
    assert RouterRecord.decode(record("r2", unreachable=(*found, found[0])).encode()) is None
    assert RouterRecord.decode(record("r2", unreachable=(Unreachable("r1", "e", "x" * 201),)).encode()) is None
    assert RouterRecord.decode(record("r2", reach=-1).encode()) is None
