"""A cluster whose installation is removed while it runs, as in the middle of an upgrade: it works on, and says so."""

from __future__ import annotations

import asyncio
import sys
import sysconfig
from pathlib import Path

import aiohttp
import grpc
import orjson
import pytest
from support.patience import PATIENCE
from support.systems import document, until

from admin.application import PAGES
from flowhook.client import channel
from flowhook.model import Status
from flowhook.v1 import (
    audit_service_pb2,
    cluster_service_pb2,
    execution_service_pb2,
    flow_service_pb2,
    ingest_service_pb2,
    job_service_pb2,
    rejection_service_pb2,
    runner_service_pb2,
    secret_service_pb2,
    shard_service_pb2,
)
from harness.cluster import start_cluster
from operations.table import OPERATIONS

ROOT = Path(__file__).parents[2]
PACKAGES = ("admin", "cli", "edge", "flowhook", "operations", "router", "runner")
SERVICES = [
    service
    for module in (
        audit_service_pb2,
        cluster_service_pb2,
        execution_service_pb2,
        flow_service_pb2,
        ingest_service_pb2,
        job_service_pb2,
        rejection_service_pb2,
        runner_service_pb2,
        secret_service_pb2,
        shard_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
]
MISSING = ("ModuleNotFoundError", "ImportError", "No module named", "TemplateNotFound", "FileNotFoundError")


@pytest.fixture
def installation(tmp_path):
    """A virtual environment of links to what this one has, and the directory to rename."""
    packages = tmp_path / "venv" / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    packages.mkdir(parents=True)
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    for name in PACKAGES:
        (packages / name).symlink_to(ROOT / name)
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(Path(sys.executable).resolve())
    (tmp_path / "venv" / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    return python, packages


async def call_all(cluster):
    """Call every method with an empty request; return those that failed for no reason of theirs."""
    failed = []
    async with channel.connect(cluster.grpc, cluster.token("admin")) as connection:
        for service in SERVICES:
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                call = connection.unary_unary(path)
                if method.server_streaming or method.client_streaming:
                    call = connection.stream_stream(path)
                try:
                    if method.server_streaming or method.client_streaming:
                        stream = call(iter([b""]), timeout=1.0)
                        await stream.read()
                        stream.cancel()
                    else:
                        await call(b"", timeout=PATIENCE)
                except grpc.aio.AioRpcError as error:
                    if error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
                        failed.append((path, error.details()))
                except asyncio.CancelledError:
                    pass
    return failed


AUTHS = (
    "{jwt: {secret: key}}",
    "{jwt: {jwks: 'https://keys.invalid/jwks', issuer: 'https://keys.invalid', audience: us}}",
    "{aws-sns: {topic_arn: 'arn:aws:sns:us-east-1:123456789012:t'}}",
    "{hmac: {secret: key, header: X-Signature}}",
    "{github: {secret: key}}",
    "{stripe: {secret: key}}",
)
BODIES = (
    ("application/json", b'{"a": 1}'),
    ("application/x-www-form-urlencoded", b"a=1"),
    ("application/xml", b"<a>1</a>"),
    ("text/x-java-properties", b"a=1"),
    ("text/plain; charset=utf-16", "a".encode("utf-16")),
    ("application/x-ndjson", b'{"a":1}\n{"a":2}\n'),
    ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'),
)


class Upgraded:
    """A cluster that has lost its installation, and HTTP clients of a sender and of an operator."""

    def __init__(self, cluster, client, session):
        self.cluster = cluster
        self.client = client
        self._session = session

    async def post(self, flow, body=b"{}", **headers):
        headers = {"Content-Type": "application/json"} | headers
        url = f"{self.cluster.http}/hook/{flow}"
        async with self._session.post(url, data=body, headers=headers) as response:
            return response.status, await response.read()

    async def get(self, path):
        headers = {"Authorization": f"Bearer {self.cluster.token('admin')}"}
        async with self._session.get(f"{self.cluster.admin}{path}", headers=headers) as response:
            return response.status, await response.content.read(1 << 20)


@pytest.fixture
async def upgraded(installation, tmp_path):
    python, packages = installation
    cluster = await start_cluster(
        "--runners",
        "1",
        data_dir=tmp_path / "data",
        environment={"FLOWHOOK_LOG_LEVEL": "debug", "FLOWHOOK_LOG_FORMAT": "json"},
        python=str(python),
    )
    try:
        async with (
            cluster.connect() as client,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session,
        ):
            await client.secrets.set("key", b"a-secret-of-sixteen-bytes")
            flows = [document(f"auth-{number}", webhook=f"{{auth: {auth}}}") for number, auth in enumerate(AUTHS)]
            flows += [document("plain", do='- keep: {set: {at: "${ now }", body: "${ .body }"}}')]
            flows += [document("waits", do="- pause: {wait: {milliseconds: 300}}")]
            await client.flows.apply(flows)
            await until(lambda: sum("all code is loaded" in line for line in cluster.output) == 4, "all code is loaded")
            packages.rename(packages.with_name("gone"))
            cluster.output.clear()
            yield Upgraded(cluster, client, session)
    finally:
        await cluster.stop()


async def test_a_cluster_without_its_installation_works_on_and_says_that_it_is_to_be_restarted(upgraded):
    cluster, client = upgraded.cluster, upgraded.client
    for number, auth in enumerate(AUTHS):
        status, answer = await upgraded.post(f"auth-{number}", Authorization="Bearer e30.e30.e30")
        assert status in (401, 503), (auth, answer)
    ids = [await client.ingest("waits", b"{}")]
    for kind, body in BODIES:
        status, answer = await upgraded.post("plain", body, **{"Content-Type": kind})
        assert status == 202, (kind, answer)
        ids.append(orjson.loads(answer)["id"])

    async def completed():
        return all([(await client.executions.get(each)).execution.status is Status.COMPLETED for each in ids])

    await until(completed, "all executions completed")
    assert await call_all(cluster) == []

    values = {"{flow_id}": "plain", "{execution_id}": ids[0], "{name}": "key"}
    paths = [path for path, _ in PAGES if "stream" not in path and path != "/logout"]
    paths += [f"/api{operation.path}" for operation in OPERATIONS if operation.method == "GET"]
    for path in paths:
        for name, value in values.items():
            path = path.replace(name, value)  # noqa: PLW2901
        status, answer = await upgraded.get(path)
        assert status < 500 or b"INSTALLATION_REPLACED" in answer or b"restart it" in answer, (path, answer)

    # what needs a process that is not there yet says why there is none
    status, answer = await upgraded.get("/api/executions?jq=.body.a%20%3D%3D%201")
    assert (status, orjson.loads(answer)["reason"]) == (429, "INSTALLATION_REPLACED")

    async def warned():
        _, answer = await upgraded.get("/readyz")
        names = [each.partition(":")[0] for each in orjson.loads(answer)["warnings"] if "restart it" in each]
        return {name.rpartition("-")[0] for name in names} >= {"admin", "edge", "router", "runner"}

    await until(warned, "every process says that it is to be restarted")
    logged = cluster.output
    assert [line for line in logged if any(each in line for each in MISSING)] == []
    assert any("installation was replaced" in line for line in logged)
