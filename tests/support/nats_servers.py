"""NATS servers with JetStream as processes of a test: one alone, or a cluster whose servers stop and start one by one.

Everything here blocks: a test with an event loop calls it in a thread, or accepts that its loop stands still. A cluster
needs 0.2 to 6 s until its first leader is elected, so share one over a module: `@pytest.fixture(scope="module")`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from support.patience import PATIENCE

PROGRAM: Final = Path(sys.executable).with_name("nats-server")
PAUSE: Final = 0.01
CAMPAIGN: Final = pytest.mark.skipif(
    "FLOWHOOK_LOG_CAMPAIGN" not in os.environ, reason="takes ten seconds; runs with FLOWHOOK_LOG_CAMPAIGN=1"
)
"""Marks what waits for elections, and is not part of the suite."""


CONFIGURATION: Final = """
server_name: "{name}"
listen: "127.0.0.1:{client}"
http: "127.0.0.1:{monitor}"
authorization {{ user: "flowhook", password: "secret" }}
{extra}
"""

JETSTREAM: Final = """
jetstream {{
  store_dir: "{store}"
  sync_interval: {sync}
  max_file_store: 64G
}}
"""

ROUTES: Final = """
cluster {{
  name: "test"
  listen: "127.0.0.1:{port}"
  routes: [{routes}]
}}
"""


class ReservedPort:
    """A port that no other process is given, though a server that names it can listen on it, again and again.

    A bound socket that does not listen takes the port out of those that the kernel hands out; SO_REUSEADDR on both
    sides lets a server bind it as well.
    """

    def __init__(self):
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number = self._socket.getsockname()[1]

    def close(self):
        self._socket.close()


class NatsServer:
    """One server. `start` returns when it takes connections; in a cluster, `wait_until_ready` waits for its leader.

    Attributes:
        name: its name in the cluster.
        address: `host:port` of clients.
        monitor: `host:port` of its monitoring endpoints.
        process: the process; None when it was stopped.
    """

    def __init__(self, name, directory, *, sync="always", jetstream=True, extra=""):
        self.name = name
        self.process = None
        self._directory = Path(directory)
        self._client, self._monitor = ReservedPort(), ReservedPort()
        self.address = f"127.0.0.1:{self._client.number}"
        self.monitor = f"127.0.0.1:{self._monitor.number}"
        self._extra = extra
        if jetstream:
            self._extra += JETSTREAM.format(store=self.store, sync=sync)

    @property
    def log(self):
        """What the server has written to its log."""
        return (self._directory / f"{self.name}.log").read_text()

    @property
    def store(self):
        """The directory of its streams."""
        return self._directory / self.name

    def start(self):
        self._directory.mkdir(parents=True, exist_ok=True)
        configuration = self._directory / f"{self.name}.conf"
        configuration.write_text(
            CONFIGURATION.format(
                name=self.name,
                client=self._client.number,
                monitor=self._monitor.number,
                extra=self._extra,
            )
        )
        with (self._directory / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen([PROGRAM, "-c", configuration], stdout=log, stderr=log)
        _wait(lambda: self._accepts() or self._ended(), f"{self.name} takes no connections")

    def stop(self):
        """End it in order: its leaderships move first. No effect when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self):
        """End it with SIGKILL. No effect when it does not run."""
        self._end(signal.SIGKILL)

    def pause(self):
        """Stop it with SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def wait_until_ready(self):
        """Wait until JetStream answers: in a cluster, until it has a leader and this server has caught up."""
        _wait(lambda: self.get("/healthz") is not None, f"{self.name} is not ready")

    def get(self, path):
        """Return the JSON of one of its monitoring endpoints; None when it does not answer 200."""
        try:
            with urllib.request.urlopen(f"http://{self.monitor}{path}", timeout=PATIENCE) as response:
                return json.load(response)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def close(self):
        self.kill()
        self._client.close()
        self._monitor.close()

    def _accepts(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._client.number), timeout=1):
            return True
        return False

    def _ended(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended: {self.log[-2000:]}")
        return False

    def _end(self, number):
        if self.process is not None:
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)
            self.process.wait(PATIENCE)
            self.process = None


class NatsCluster:
    """Servers in a cluster.

    Attributes:
        servers: all of them, whether they run or not.
    """

    def __init__(self, servers):
        self.servers = servers

    def __getitem__(self, name):
        return next(server for server in self.servers if server.name == name)

    def url(self, **parameters):
        """Return the URL of all servers, with the replicas of a cluster of this size and what `parameters` say."""
        return _url(self.servers, {"replicas": len(self.servers)} | parameters)

    def start(self):
        """Start the servers that do not run, and wait until all are ready."""
        for server in self.servers:
            if server.process is None:
                server.start()
        for server in self.servers:
            server.wait_until_ready()

    def leader(self, stream):
        """Return the server that leads a stream; waits until there is one."""
        found = []

        def look():
            found[:] = [server for server in self.servers if server.process and _leads(server, stream)]
            return found

        _wait(look, f"{stream} has no leader")
        return found[0]


@contextmanager
def nats_server(directory, *, sync="always", jetstream=True, extra=""):
    """Run one server alone; its `url()` asks for one replica. `extra` is added to its configuration."""
    server = SingleServer("single", directory, sync=sync, jetstream=jetstream, extra=extra)
    try:
        server.start()
        server.wait_until_ready()
        yield server
    finally:
        server.close()


class SingleServer(NatsServer):
    """A server that is no part of a cluster."""

    def url(self, **parameters):
        """Return its URL, for one replica and what `parameters` say."""
        return _url([self], {"replicas": 1} | parameters)


@contextmanager
def nats_cluster(directory, *, size=3, sync="always", start=None):
    """Run a cluster whose servers are named `nats-1` and so on; with `start`, so many of them, ready or not."""
    ports = [ReservedPort() for _ in range(size)]
    routes = ", ".join(f'"nats://127.0.0.1:{port.number}"' for port in ports)
    servers = [
        NatsServer(f"nats-{number}", directory, sync=sync, extra=ROUTES.format(port=port.number, routes=routes))
        for number, port in enumerate(ports, 1)
    ]
    cluster = NatsCluster(servers)
    try:
        if start is None:
            cluster.start()
        else:
            for server in servers[:start]:
                server.start()
        yield cluster
    finally:
        for server in servers:
            server.close()
        for port in ports:
            port.close()


def _url(servers, parameters):
    parameters = {"monitor": ",".join(server.monitor for server in servers)} | parameters
    addresses = ",".join(server.address for server in servers)
    query = "&".join(f"{name}={value}" for name, value in parameters.items() if value is not None)
    return f"nats://flowhook:secret@{addresses}?{query}"


def _leads(server, stream):
    found = server.get("/jsz?streams=1&accounts=1") or {}
    return any(
        detail["name"] == stream and detail.get("cluster", {}).get("leader") == server.name
        for account in found.get("account_details", ())
        for detail in account.get("stream_detail") or ()
    )


def _wait(condition, complaint):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(PAUSE)
