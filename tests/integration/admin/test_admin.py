"""The admin process over HTTP."""

from __future__ import annotations

import asyncio
import json
import logging

import aiohttp
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from support.patience import PATIENCE

from admin import app
from flowhook.errors import InvalidError, UnavailableError
from flowhook.process.metrics import OPENMETRICS_TYPE
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import AdminSettings

PATHS = ["/healthz", "/readyz", "/health", "/metrics"]
PROTECTED = ["/", "/flows", "/api/flows"]


@pytest.fixture
def cluster(router):
    for name in ("admin-1", "edge-1", "router-1", "runner-1"):
        head = b"# HELP requests_total R.\n# TYPE requests_total counter\n"
        router.add(name, metrics=head + b'requests_total{process="%b"} 3\n' % name.encode())
    return router


async def test_it_is_alive_whatever_becomes_of_the_others(admin, router):
    await router.stop()
    status, _, text = await admin("GET", "/healthz")
    assert (status, json.loads(text)["status"]) == (200, "ok")


async def test_a_whole_cluster_is_ready(admin, cluster):
    status, _, text = await admin("GET", "/readyz")
    assert (status, json.loads(text)) == (200, {"ready": True, "reasons": [], "warnings": []})


async def test_a_cluster_without_a_runner_is_not_ready_and_says_why(admin, router):
    router.add("router-1")
    router.add("edge-1", ready=False, detail="the router is away")
    status, _, text = await admin("GET", "/readyz")
    reasons = ["no edge is ready (edge-1: the router is away)", "there is no runner"]
    assert (status, json.loads(text)) == (503, {"ready": False, "reasons": reasons, "warnings": []})


async def test_an_owner_that_is_not_reached_is_named_with_what_another_router_says_of_its_address(admin, router):
    router.shards.problem = "router-1 is not reachable at 10.0.0.5:50051 (edge-1 can't connect: connection refused)"
    router.away = True
    status, _, text = await admin("GET", "/readyz")
    assert (status, json.loads(text)["reasons"][1:]) == (503, [router.shards.problem])


async def test_a_router_that_is_away_is_the_reason(admin, router):
    await router.stop()
    status, _, text = await admin("GET", "/readyz")
    assert status == 503
    assert router.target in json.loads(text)["reasons"][0]


async def test_health_describes_every_process(admin, cluster):
    status, headers, text = await admin("GET", "/health")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    shown = json.loads(text)
    assert shown["ready"] is True
    assert shown["processes"][1] == {
        "name": "edge-1",
        "role": "edge",
        "ready": True,
        "detail": "",
        "build": "0.1.0",
        "pid": 7,
        "host": "host",
        "last_seen_seconds": 0.1,
        "started_at": None,
        "connections": 0,
        "credit": 0,
        "in_flight": 0,
        "clock_skew_seconds": None,
    }


async def test_health_answers_with_what_is_known_when_the_router_is_away(admin, router):
    await router.stop()
    status, _, text = await admin("GET", "/health")
    assert (status, json.loads(text)["ready"], json.loads(text)["processes"]) == (200, False, [])


async def test_metrics_of_all_processes_are_one_text(admin, cluster):
    status, headers, text = await admin("GET", "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {sample.labels["process"] for sample in families["requests"].samples} == {
        "admin-1",
        "edge-1",
        "router-1",
        "runner-1",
    }


async def test_without_the_router_metrics_say_that_what_was_known_is_down(admin, cluster, router):
    await admin("GET", "/metrics")
    await router.stop()
    status, _, text = await admin("GET", "/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(text)}
    up = {sample.labels["process"]: sample.value for sample in families["flowhook_up"].samples}
    assert up == {"router-1": 0.0, "edge-1": 0.0, "runner-1": 0.0, "admin-1": 1.0}
    own = families["flowhook_build_info"].samples
    assert [(sample.labels["process"], sample.labels["role"]) for sample in own] == [("admin-1", "admin")]


async def test_metrics_are_in_the_format_that_is_asked_for(admin, cluster):
    accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3"
    status, headers, text = await admin("GET", "/metrics", Accept=accept)
    assert (status, headers["Content-Type"]) == (200, OPENMETRICS_TYPE)
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(text)}
    assert len(families["requests"].samples) == 4


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_get_without_a_body(admin, cluster, path):
    status, headers, text = await admin("HEAD", path)
    assert (status, text) == (200, "")
    assert int(headers["Content-Length"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("HEAD", "/nope", 404),
        ("GET", "/..%2f", 404),
        ("POST", "/healthz", 405),
        ("DELETE", "/healthz", 405),
    ],
)
async def test_what_there_is_not_is_a_problem_without_internals(admin, method, path, status):
    got, headers, text = await admin(method, path)
    assert (got, headers["Content-Type"]) == (status, "application/problem+json")
    if method != "HEAD":
        assert json.loads(text)["status"] == status
    if status == 405:
        assert headers["Allow"] == "GET, HEAD"


class TestHost:
    """Any page in an operator's browser may have a name of its own resolve to this process."""

    @pytest.mark.parametrize("path", [*PATHS, *PROTECTED, "/login", "/static/console.css", "/nope"])
    @pytest.mark.parametrize(
        "host", ["attacker.example", "localhost.attacker.example", "192.0.2.8", "127.0.0.1.nip.example:8081"]
    )
    async def test_a_name_that_is_not_its_own_is_refused_on_every_path(self, admin, cluster, path, host):
        status, headers, text = await admin("GET", path, host)
        assert (status, headers["Content-Type"]) == (421, "application/problem+json")
        assert json.loads(text)["reason"] == "HOST_UNKNOWN"
        assert "edge-1" not in text

    @pytest.mark.parametrize("host", ["localhost:8081", "admin.example.com", "ADMIN.example.com.:80", "192.0.2.7:9"])
    async def test_its_own_names_are_answered(self, admin, cluster, host):
        assert (await admin("GET", "/readyz", host))[0] == 200

    async def test_a_request_of_http_1_0_has_no_name(self, admin, cluster):
        reader, writer = await asyncio.open_connection(*admin.address.split(":"))
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), PATIENCE)).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_it_reports_itself_to_the_router(admin, router):
    async with asyncio.timeout(PATIENCE):
        await router.reported.wait()


async def test_a_port_that_is_taken_is_named(tmp_path):
    (tmp_path / "admin.token").write_text("t")
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    settings = AdminSettings(data_dir=tmp_path, admin_port=port)
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}"):
        await app.serve(settings, ProcessState(name="admin-1", role="admin"))
    taken.close()
    await taken.wait_closed()


async def test_without_a_token_it_does_not_start(tmp_path):
    with pytest.raises(InvalidError, match=r"view\.token"):
        await app.serve(AdminSettings(data_dir=tmp_path, admin_port=0), ProcessState(name="admin-1", role="admin"))


async def test_a_download_that_the_router_did_not_finish_does_not_look_whole(admin):
    with pytest.raises(aiohttp.ClientPayloadError):
        await admin("GET", "/api/executions/evt_x/body", Authorization="Bearer fhk_t")


async def test_a_client_that_disconnects_at_once_leaves_no_trace_in_the_log(admin, caplog):
    host, _, port = admin.address.rpartition(":")
    for _ in range(20):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /flows HTTP/1.1\r\nHost: localhost\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    assert (await admin("GET", "/healthz"))[0] == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_request_in_progress_is_answered_before_the_process_stops(admin, router, caplog):
    router.answers.clear()
    asking = asyncio.create_task(admin("GET", "/health"))
    await router.asked.wait()
    admin.stop()
    for _ in range(100):
        await asyncio.sleep(0)
    assert not admin.serving.done()
    router.answers.set()
    assert (await asking)[0] == 200
    await admin.serving
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "request_line", ["POST /login/continue", "POST /flows", "GET /flows", "GET /api/flows", "GET /x"]
)
async def test_clients_that_leave_before_their_bodies_came_hold_nothing_up(admin, monkeypatch, request_line):
    monkeypatch.setattr(app, "STOP_SECONDS", 3600)
    host, _, port = admin.address.rpartition(":")
    head = f"{request_line} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Length: 1000\r\n\r\n"
    for _ in range(3):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(head.encode() + b"x" * 999)
        writer.close()
        await writer.wait_closed()
    assert (await admin("GET", "/healthz"))[0] == 200
    admin.stop()
    async with asyncio.timeout(PATIENCE):
        await admin.serving


async def test_a_token_longer_than_any_is_unknown(admin):
    status, _, text = await admin("GET", "/api/flows", Authorization=f"Bearer {'x' * 20_000}")
    assert (status, json.loads(text)["reason"]) == (401, "UNAUTHENTICATED")
