"""A running cluster, and what senders and operators do with it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from support.commands import Result, clean_environment, flowhook
from support.outside import outside_world
from support.patience import PATIENCE
from support.supervisors import alive

from flowhook.model import Status
from harness.cluster import running_cluster

HEAD = "document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}\n"
EVENT_ID = re.compile(r"evt_[0-9a-z]{26}")


def document(name, *, webhook="{auth: none}", do="- keep: {set: '${ .body }'}", **keys):
    """Return a flow file; `do` is a list in YAML, each other key a value in YAML."""
    tasks = "\n".join(f"  {line}" for line in do.splitlines())
    extra = "".join(f"{key}: {value}\n" for key, value in keys.items())
    return f"{HEAD.format(name=name)}webhook: {webhook}\n{extra}do:\n{tasks}\n".encode()


@dataclass(frozen=True, slots=True)
class SystemResponse:
    """What a sender got."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self):
        return orjson.loads(self.body)

    @property
    def id(self):
        assert self.status < 300, self
        return self.json["id"]


class System:
    """A cluster, the stand-in for the world outside of it, and a sender's HTTP client."""

    def __init__(self, cluster, outside, session):
        self.cluster = cluster
        self.client = cluster.client
        self.outside = outside
        self._session = session

    async def apply(self, *documents):
        return await self.client.flows.apply(documents)

    async def secrets(self, **values):
        """Set secrets; an underscore stands for a dash."""
        for name, value in values.items():
            await self.client.secrets.set(name.replace("_", "-"), value.encode())

    async def request(self, method, path, *, base=None, **options):
        async with self._session.request(method, (base or self.cluster.http) + path, **options) as response:
            return SystemResponse(response.status, response.headers, await response.read())

    async def send(self, flow, body=None, **options):
        """Post JSON to a flow as a sender without credentials does."""
        return await self.request("POST", f"/hook/{flow}", json=body, **options)

    async def admin(self, path):
        return await self.request("GET", path, base=self.cluster.admin)

    async def ended(self, execution_id):
        """Wait for an execution to end and return all that is kept of it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                detail = await self.client.executions.get(execution_id)
                if detail.execution.status.ended:
                    return detail
                await asyncio.sleep(0.02)

    async def completed(self, execution_id):
        """Wait for an execution to complete and return its output."""
        detail = await self.ended(execution_id)
        assert detail.execution.status is Status.COMPLETED, detail.execution.error
        return orjson.loads(detail.output)

    async def faulted(self, execution_id):
        """Wait for an execution to fault and return its error."""
        detail = await self.ended(execution_id)
        assert detail.execution.status is Status.FAULTED, detail.execution
        return detail.execution.error

    async def executions(self, flow, **conditions):
        return [execution async for execution in self.client.executions.list(flow_id=flow, **conditions)]

    def received(self, path):
        """Return what the outside world received at a path, in order."""
        return [request for request in self.outside.received if request.path == path]

    async def flowhook(self, *arguments, stdin="", **environment):
        """Run a command as an operator of this cluster does, in this process: its imports cost more than it does."""
        variables = {"FLOWHOOK_DATA_DIR": self.cluster.data_dir} | environment
        return await asyncio.to_thread(flowhook, *arguments, stdin=stdin, **variables)

    async def raw_body(self, execution_id):
        """Return what `executions get --raw` prints, which need not be text."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "cli", "executions", "get", execution_id, "--raw", **self._surroundings()
        )
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
        assert process.returncode == 0, err
        return out

    async def shell(self, command, *, cwd, stdin=""):
        """Run a command line as somebody who pasted it does."""
        process = await asyncio.create_subprocess_shell(command, cwd=cwd, **self._surroundings())
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return Result(process.returncode, out.decode(), err.decode())

    def _surroundings(self):
        pipe = asyncio.subprocess.PIPE
        variables = clean_environment(FLOWHOOK_DATA_DIR=self.cluster.data_dir)
        return {"env": variables, "stdin": pipe, "stdout": pipe, "stderr": pipe}


async def until(condition, what):
    """Wait for what other processes do; `condition` may be asynchronous."""
    deadline = time.monotonic() + PATIENCE
    while True:
        met = condition()
        if met is not None and hasattr(met, "__await__"):
            met = await met
        if met:
            return met
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        await asyncio.sleep(0.02)


async def kill(cluster, *processes):
    """Kill processes at once, as soon as all of them run: what was killed before may still be on its way back."""
    await until(lambda: all(_runs(cluster, process) for process in processes), f"all of {processes} run")
    pids = [cluster.pid(process) for process in processes]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not any(map(alive, pids)), f"all of {processes} are gone")


def _runs(cluster, process):
    try:
        return alive(cluster.pid(process))
    except FileNotFoundError:
        return False


@asynccontextmanager
async def running_system(*options, answer=lambda _received: (200, {"ok": True}), data_dir=None, **environment):
    """Run a cluster and its world; `environment` are settings without their prefix, in lower case."""
    async with outside_world(answer) as outside:
        variables = {"twitter_base_url": outside.url} | environment
        variables = {f"FLOWHOOK_{name.upper()}": str(value) for name, value in variables.items()}
        async with (
            running_cluster(*options, data_dir=data_dir, environment=variables) as cluster,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session,
        ):
            yield System(cluster, outside, session)
