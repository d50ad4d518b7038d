"""Every process says its metrics on its own port, with the values that it should have."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.commands import clean_environment
from support.patience import PATIENCE
from support.ports import free_port
from support.systems import document

from flowhook.client import AsyncClient
from flowhook.process.metric_table import METRICS
from flowhook.process.metrics import OPENMETRICS_TYPE

pytestmark = pytest.mark.e2e

# of a replicated log, of traces, of backups: tests of these look at them
ELSEWHERE = (
    "flowhook_router_owner",
    "flowhook_router_log_",
    "flowhook_router_reached_by",
    "flowhook_router_unreachable_from",
    "flowhook_router_snapshots_",
    "flowhook_snapshot_",
    "flowhook_standby_",
    "flowhook_nats_",
    "flowhook_spans_",
    "flowhook_backup_",
    "flowhook_up",
)
KEYED = "{auth: {api_key: {header: x-key, secrets: [new, old]}}, dedupe: {key: '${ .headers[\"x-id\"] }'}}"
FILTERED = "{auth: none, accept: {filter: '${ .body.wanted }'}}"
RETRIED = """- again:
    try: [ask: {call: http, with: {method: get, endpoint: 'URL/nothing'}}]
    catch: {retry: {delay: {milliseconds: 1}, limit: {attempt: {count: 2}}}}"""
CALLS = "- ask: {call: http, with: {method: get, endpoint: 'URL/healthz'}}"


class Processes:
    """A process of each role, each with a private port."""

    def __init__(self, directory):
        self._directory = directory
        self._processes = {}
        self.addresses = {}
        self.router = f"127.0.0.1:{free_port()}"

    async def start(self, role):
        log = self._directory / f"{role}.log"
        environment = clean_environment(
            FLOWHOOK_DATA_DIR=self._directory / "data",
            FLOWHOOK_ROUTER=self.router,
            FLOWHOOK_GRPC_PORT=self.router.rpartition(":")[2],
            FLOWHOOK_HTTP_PORT="0",
            FLOWHOOK_ADMIN_PORT="0",
            FLOWHOOK_HEALTH_PORT="0",
            FLOWHOOK_PROCESS_NAME=f"{role}-1",
            FLOWHOOK_ALLOW_LOOPBACK_ADDRESSES="true",
            FLOWHOOK_LOG_FORMAT="json",
        )
        with log.open("wb") as file:
            command = [sys.executable, "-P", "-m", "cli", role]
            process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)  # noqa: ASYNC220 - it forks
        self._processes[role] = process
        async with asyncio.timeout(PATIENCE):
            while not (found := [line for line in log.read_text().splitlines() if '"event": "ready"' in line]):
                assert process.poll() is None, log.read_text()
                await asyncio.sleep(0.02)
        self.addresses[role] = json.loads(found[0])

    def kill(self, role):
        process = self._processes.pop(role)
        process.kill()
        process.wait()

    def stop(self):
        for process in self._processes.values():
            process.kill()
            process.wait()


@asynccontextmanager
async def running(directory):
    processes = Processes(directory)
    try:
        for role in ("router", "edge", "runner", "admin"):
            await processes.start(role)
        token = (directory / "data" / "admin.token").read_text().strip()
        async with AsyncClient(processes.router, token=token) as client, aiohttp.ClientSession() as session:
            yield processes, client, session
    finally:
        processes.stop()


async def scrape(session, address):
    async with session.get(f"http://{address}/metrics") as response:
        assert response.status == 200
        return list(text_string_to_metric_families(await response.text()))


def values(families):
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


async def drive(processes, client, session):
    """Send what the checks below expect to be counted; return once all of it was done."""
    url, hooks = (f"http://{processes.addresses[role]['http']}" for role in ("admin", "edge"))
    for name in ("new", "old"):
        await client.secrets.set(name, f"key-{name}".encode())
    await client.flows.apply(
        [
            document("keyed", webhook=KEYED, do=CALLS.replace("URL", url)),
            document("filtered", webhook=FILTERED),
            document("again", do=RETRIED.replace("URL", url)),
            document("paused"),
            document("waits", do="- rest: {wait: {hours: 1}}"),
        ]
    )
    await client.flows.pause("paused")
    sent = [("keyed", 202, {"x-key": "key-new", "x-id": f"{number}"}) for number in range(3)]
    sent += [("keyed", 202, {"x-key": f"key-{age}", "x-id": "3"}) for age in ("old", "new")]
    sent += [("keyed", 401, {"x-key": "wrong"})] * 2
    sent += [("filtered", 204, {}), ("again", 202, {}), ("waits", 202, {}), ("nobody", 404, {})]
    sent += [("paused", 202, {})] * 2
    for flow, status, headers in sent:
        async with session.post(f"{hooks}/hook/{flow}", json={"wanted": False}, headers=headers) as response:
            assert response.status == status, await response.text()
    ended = await ends(client, 5)
    await client.executions.replay(next(each.id for each in ended if each.flow_id == "keyed"))
    await ends(client, 6)


async def ends(client, number):
    while len(ended := [each async for each in client.executions.list() if each.status.ended]) < number:
        await asyncio.sleep(0.05)
    return ended


async def test_every_process_says_what_was_done(tmp_path):
    async with running(tmp_path) as (processes, client, session), asyncio.timeout(2 * PATIENCE):
        await drive(processes, client, session)
        parked = ("flowhook_queue_depth", "flow=waits", "state=waiting")
        replayed, seen = ("flowhook_executions_total", "flow=keyed", "status=completed"), {}
        while (seen.get(parked), seen.get(replayed)) != (1, 5):  # a text may be some milliseconds old
            found = {role: await scrape(session, each["health"]) for role, each in processes.addresses.items()}
            seen = values(found["router"])
        for role, families in found.items():
            check_names(role, families)
        check_edge(values(found["edge"]))
        check_router(seen)
        check_runner(values(found["runner"]))


def check_names(role, families):
    exposed = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    listed = {each.name for each in METRICS.values() if role in each.roles and not each.name.startswith(ELSEWHERE)}
    assert {name for name in exposed if name.startswith(("flowhook_", "http_", "rpc_"))} == listed
    labels = {(sample.labels.get("flow"), sample.name) for family in families for sample in family.samples}
    assert not any(flow == "nobody" for flow, _ in labels)


def check_edge(edge):
    check, rejected = "flowhook_signature_checks_total", "flowhook_events_rejected_total"
    assert edge[check, "key=current", "result=valid", "scheme=api_key"] == 4
    assert edge[check, "key=previous", "result=valid", "scheme=api_key"] == 1
    assert edge[check, "key=", "result=invalid", "scheme=api_key"] == 2
    assert edge[rejected, "flow=keyed", "reason=UNAUTHENTICATED"] == 2
    assert edge[rejected, "flow=_unknown", "reason=FLOW_NOT_FOUND"] == 1
    assert edge["flowhook_events_filtered_total", "flow=filtered"] == 1
    request = ("http_server_request_duration_seconds_count", "error_type=", "http_request_method=POST")
    assert edge[*request, "http_response_status_code=202", "http_route=/hook/{flow}"] == 9
    assert edge["flowhook_accept_duration_seconds_count",] == 9
    assert edge["http_server_request_body_size_bytes_bucket", "le=256.0"] >= 9


def check_router(router):
    accepted = "flowhook_events_accepted_total"
    assert [router[accepted, f"flow={flow}"] for flow in ("keyed", "paused", "again")] == [4, 2, 1]
    assert router["flowhook_events_duplicate_total", "flow=keyed"] == 1
    assert router["flowhook_executions_total", "flow=keyed", "status=completed"] == 5
    assert router["flowhook_executions_total", "flow=again", "status=faulted"] == 1
    assert router["flowhook_replays_total", "mode=start"] == 1
    assert router["flowhook_queue_depth", "flow=paused", "state=ready"] == 2
    assert router["flowhook_queue_oldest_age_seconds", "flow=paused"] == 0  # nobody is to be woken for it
    assert router["flowhook_queue_oldest_age_seconds", "flow=keyed"] == 0
    assert router["flowhook_queue_wait_seconds_count", "flow=keyed"] == 5
    assert router["flowhook_event_end_to_end_seconds_count", "flow=keyed"] == 5
    assert router["flowhook_leases_granted_total",] == 7
    assert router["flowhook_runners_connected",] == 1
    call = ("rpc_server_call_duration_seconds_count", "rpc_method=flowhook.v1.FlowService/PauseFlow")
    assert router[*call, "rpc_status_code=OK"] == 1
    assert router["flowhook_runner_credit", "runner=runner-1"] > 0
    assert router["flowhook_storage_commit_duration_seconds_count",] > 5
    assert router["flowhook_storage_bytes", "kind=database"] > 0
    assert router["flowhook_disk_size_bytes",] > router["flowhook_disk_free_bytes",] > 0


def check_runner(runner):
    assert runner["flowhook_attempts_total", "outcome=completed"] == 5
    assert runner["flowhook_attempts_total", "outcome=parked"] == 1
    assert runner["flowhook_task_retries_total", "flow=again"] == 2
    duration = "flowhook_task_duration_seconds_count"
    assert runner[duration, "flow=keyed", "function=http", "status=completed"] == 5
    assert runner[duration, "flow=again", "function=http", "status=faulted"] == 3
    request = ("http_client_request_duration_seconds_count", "error_type=")
    assert runner[*request, "http_response_status_code=200", "server_address=127.0.0.1"] == 5
    assert runner[*request, "http_response_status_code=404", "server_address=127.0.0.1"] == 3


async def test_scrapes_during_an_overload_are_answered_and_cost_no_event(tmp_path):
    async with running(tmp_path) as (processes, client, session), asyncio.timeout(3 * PATIENCE):
        await client.flows.apply([document("many")])
        hook = f"http://{processes.addresses['edge']['http']}/hook/many"

        async def send():
            for _ in range(5):
                async with session.post(hook, json={}) as response:
                    assert response.status == 202

        async def look(role):
            for _ in range(5):
                assert await scrape(session, processes.addresses[role]["health"])
                assert "# EOF" in await whole(session, processes)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(100):
                tasks.create_task(send())
            for role in processes.addresses:
                tasks.create_task(look(role))
        accepted = ("flowhook_events_accepted_total", "flow=many")
        while values(await scrape(session, processes.addresses["router"]["health"]))[accepted] < 500:
            await asyncio.sleep(0.05)


async def test_a_process_that_died_is_down_until_it_is_dismissed_and_all_are_without_the_router(tmp_path):
    async with running(tmp_path) as (processes, client, session), asyncio.timeout(2 * PATIENCE):
        processes.kill("edge")
        text = await until_says(session, processes, 'flowhook_up{process="edge-1",role="edge"} 0.0')
        assert 'flowhook_up{process="router-1",role="router"} 1.0' in text
        await client.cluster.dismiss("edge-1")
        assert 'process="edge-1"' not in await whole(session, processes)
        processes.kill("router")
        text = await until_says(session, processes, 'flowhook_up{process="runner-1",role="runner"} 0.0')
        assert 'flowhook_up{process="router-1",role="router"} 0.0' in text
        assert 'flowhook_up{process="admin-1",role="admin"} 1.0' in text
        assert values(await scrape(session, processes.addresses["runner"]["health"]))


async def until_says(session, processes, line):
    while line not in (text := await whole(session, processes)):
        await asyncio.sleep(0.1)
    return text


async def whole(session, processes):
    url = f"http://{processes.addresses['admin']['http']}/metrics"
    async with session.get(url, headers={"Accept": "application/openmetrics-text"}) as response:
        assert (response.status, response.headers["Content-Type"]) == (200, OPENMETRICS_TYPE)
        return await response.text()
