"""Who reports, what of it is kept, and that nobody who may report keeps the cluster's health from being known."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
import structlog
from support.patience import PATIENCE

from flowhook.asyncio_tasks import beside
from flowhook.client import channel
from flowhook.errors import ConflictError, NotFoundError, PermissionDeniedError
from flowhook.process.process_state import ProcessState
from flowhook.reporting.process_reports import ProcessReporter
from flowhook.security.tokens import TokenScope, create_token, revoke_token
from flowhook.v1 import cluster_service_pb2 as pb
from flowhook.v1 import cluster_service_pb2_grpc, rejection_service_pb2, rejection_service_pb2_grpc
from flowhook.wire import status
from router.reports.processes import MAX_PROCESSES


async def report(router, token, *processes):
    """Report processes and return the reasons why that is refused."""
    async with channel.connect(router.target, token) as connection:
        stub = cluster_service_pb2_grpc.ClusterServiceStub(connection)
        reasons = set()
        for process in processes:
            try:
                await stub.ReportProcess(pb.ReportProcessRequest(process=process))
            except grpc.aio.AioRpcError as error:
                reasons.add(status.from_rpc_error(error).reason)
        return reasons


def series(family, count):
    lines = "".join(f'{family}{{number="{number}"}} 1\n' for number in range(count))
    return f"# HELP {family} F.\n# TYPE {family} gauge\n{lines}".encode()


async def test_a_service_that_hands_in_events_reports_no_process(router):
    token = create_token(router.settings.data_dir, "billing", [TokenScope.INGEST])
    for role in ("edge", "runner", "router", "admin"):
        assert await report(router, token, pb.Process(name=f"{role}-1", role=role)) == {"SCOPE_MISSING"}


async def test_a_runner_reports_for_no_other_role(router):
    token = router.token("runner")
    assert await report(router, token, pb.Process(name="edge-1", role="edge")) == {"SCOPE_MISSING"}
    assert await report(router, token, pb.Process(name="runner-1", role="runner")) == set()


async def test_whoever_reports_as_much_as_goes_leaves_the_health_of_all_known(router, client):
    metrics = series("m", 2500)
    many = [pb.Process(name=f"runner-{n:04}", role="runner", metrics=metrics) for n in range(MAX_PROCESSES)]
    assert await report(router, router.token("runner"), *many) == set()
    huge = pb.Process(name="huge", role="runner", detail="x" * (30 << 20))
    assert await report(router, router.token("runner"), huge) == {"PROCESS_INVALID"}
    assert await report(router, router.token("runner"), pb.Process(name="more", role="runner")) == {
        "TOO_MANY_PROCESSES"
    }

    edge = pb.Process(name="edge-1", role="edge", ready=True, metrics=series("e", 1))
    assert await report(router, router.token("edge"), edge) == set()

    known = {process.name: process for process in await client.cluster.processes()}
    assert len(known) == MAX_PROCESSES + 2
    assert known["edge-1"].ready
    assert b'e{process="edge-1",role="edge",number="0"} 1' in known["edge-1"].metrics


async def test_health_is_requested_without_metrics(router, client):
    await report(router, router.token("edge"), pb.Process(name="edge-1", role="edge", metrics=series("e", 1)))
    assert all(process.metrics for process in await client.cluster.processes())
    assert not any(process.metrics for process in await client.cluster.processes(metrics=False))


async def test_a_service_that_hands_in_events_reports_no_refused_requests(router):
    token = create_token(router.settings.data_dir, "billing", [TokenScope.INGEST])
    async with channel.connect(router.target, token) as connection:
        stub = rejection_service_pb2_grpc.RejectionServiceStub(connection)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ReportRejections(rejection_service_pb2.ReportRejectionsRequest())
    assert isinstance(status.from_rpc_error(caught.value), PermissionDeniedError)


@pytest.mark.parametrize("skew", [-15, 15])
async def test_a_process_whose_clock_is_wrong_measures_by_how_much_and_says_so_once(router, client, skew):
    state = ProcessState(name="runner-1", role="runner")
    state.ready.set()

    async def reported():
        async with asyncio.timeout(PATIENCE):
            while True:
                for process in await client.cluster.processes():
                    if process.name == "runner-1" and process.clock_skew is not None:
                        return process
                await asyncio.sleep(0.02)

    with structlog.testing.capture_logs() as logs:
        async with channel.connect(router.target, router.token("runner")) as connection:
            reporter = ProcessReporter(connection, state, interval=0.05, now=lambda: time.time() + skew)
            reporting = asyncio.create_task(reporter.run())
            process = await reported()
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)
    # a measurement is exact to half of its round trip, and the least that it can be
    assert 1 < process.clock_skew * (1 if skew > 0 else -1) <= abs(skew) + 0.01
    warned = [entry for entry in logs if entry["log_level"] == "warning" and "clock" in entry["event"]]
    assert len(warned) == 1
    assert warned[0]["ahead"] * skew > 0


async def test_the_clock_that_most_others_differ_from_is_warned_of_and_theirs_are_not(router, client):
    """Four processes agree; the fifth one has the router's clock, and the sixth one its own."""
    states = [ProcessState(name=f"runner-{number}", role="runner") for number in range(6)]
    clocks = [lambda ahead=ahead: time.time() + ahead for ahead in (60, 60.1, 60.2, 60.1, 0, -60)]
    behind = [f"its clock is {seconds} s behind most others'" for seconds in (60, 120)]

    async def warned():
        [own] = [each for each in await client.cluster.processes() if each.role == "router"]
        return [*own.warnings, *(state.warnings.get("clock", "") for state in states)]

    async with channel.connect(router.target, router.token("runner")) as connection:
        reporters = [
            ProcessReporter(connection, state, interval=0.05, now=clock)
            for state, clock in zip(states, clocks, strict=True)
        ]
        async with beside(*(each.run() for each in reporters)), asyncio.timeout(PATIENCE):
            while await warned() != [behind[0], "", "", "", "", *behind]:
                await asyncio.sleep(0.02)


async def test_an_edge_whose_token_is_revoked_is_not_ready_and_says_why(router):
    name = f"edge-{TokenScope.VERIFY}"
    token = create_token(router.settings.data_dir, name, [TokenScope.INGEST, TokenScope.VERIFY])
    state = ProcessState(name="edge-1", role="edge")
    state.ready.set()

    async def until(lack):
        async with asyncio.timeout(PATIENCE):
            while lack not in state.lack():
                await asyncio.sleep(0.01)

    with structlog.testing.capture_logs() as logs:
        async with channel.connect(router.target, token) as connection:
            reporting = asyncio.create_task(ProcessReporter(connection, state, interval=0.02).run())
            await until("")
            revoke_token(router.settings.data_dir, name)
            await until("the router refuses the token: the token is unknown, revoked or expired")
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)
    assert len([entry for entry in logs if entry["log_level"] == "error"]) == 1
    assert token not in str(logs)


async def test_a_process_that_ends_in_order_says_so_at_the_end(router, client):
    state = ProcessState(name="edge-1", role="edge")
    state.ready.set()
    async with channel.connect(router.target, router.token("edge")) as connection:
        reporting = asyncio.create_task(ProcessReporter(connection, state, interval=PATIENCE).run())
        async with asyncio.timeout(PATIENCE):
            while "edge-1" not in {each.name for each in await client.cluster.processes()}:
                await asyncio.sleep(0.01)
        state.stop.set()
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)
    edge = next(each for each in await client.cluster.processes() if each.name == "edge-1")
    assert (edge.ready, edge.detail) == (False, "draining")
    with pytest.raises(ConflictError):
        await client.cluster.dismiss("edge-1")
    with pytest.raises(NotFoundError):
        await client.cluster.dismiss("edge-2")
    assert [entry.target async for entry in client.audit.list(action="ClusterService/DismissProcess")]
