"""The NATS servers of a local cluster: a cluster of three that stores the replicated log, each in `<data-dir>/nats-N`.

Their ports and their password are chosen once and are in `<data-dir>/nats.json`, so that the servers find one another
again after a restart. They listen on the loopback address only.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Self

import orjson

from cli.supervisor.cluster_spec import LOOPBACK, Command, ForeignProgram, find_nats_server
from cli.supervisor.http_probe import probe
from flowhook.errors import InvalidError
from flowhook.security.private_files import make_directory, write_private

NAMES: Final = ("nats-1", "nats-2", "nats-3")  # three: without one of them, two are still a quorum
FILE: Final = "nats.json"
CONFIGURATION_FILE: Final = "nats.conf"
LOG_FILE: Final = "nats.log"
USER: Final = "flowhook"
CLUSTER: Final = "flowhook"
# ports are chosen from these. Systems use higher ones for outgoing connections (32,768 and above on Linux); such a
# connection could take the port of a server while it restarts.
FIRST_PORT: Final = 20_000
LAST_PORT: Final = 29_999
# limits of the log of one server: a file of this size is renamed, and the oldest of so many is removed
LOG_BYTES: Final = 8 << 20
LOG_FILES: Final = 3
OK: Final = 200
MAX_PAYLOAD: Final = 1 << 20  # bytes of the largest message
# Where three servers share few cores, each runs Go code on one thread at a time. By default it does on as many as there
# are cores, and threads that look for work take the cores from the routers: on two, 67 µs of CPU time an accepted event
# instead of 47, and 120 an execution instead of 74. Elsewhere Go decides, which knows limits of containers.
GO_THREADS: Final = {"GOMAXPROCS": "1"} if (os.cpu_count() or 1) < 2 * len(NAMES) else {}


class Ports(NamedTuple):
    """Ports of one server: for clients, for the other servers, and for requests about its state."""

    client: int
    route: int
    monitor: int


@dataclass(frozen=True, slots=True)
class NatsServers:
    """The NATS servers of one data directory, configured."""

    data_dir: Path
    program: str  # path of the executable
    password: str  # of clients, and of the servers among themselves
    ports: Mapping[str, Ports]  # by name
    reserved: Sequence[socket.socket] = ()  # sockets that reserve the ports while this object lives (Linux)

    @classmethod
    def prepare(cls, data_dir: Path) -> Self:
        """Choose the ports and the password that were not chosen before, and write the configuration files. Blocking.

        The data directory must exist, and be used by one supervisor only.

        Raises:
            InvalidError: no nats-server is installed (`NATS_SERVER_MISSING`), or the directory can't be written
                (`DATA_DIR_UNUSABLE`).
        """
        program = find_nats_server()
        password, earlier = _read(data_dir / FILE)
        sockets = _bind(earlier)
        numbers = [each.getsockname()[1] for each in sockets]
        servers = cls(data_dir, program, password, _ports(numbers), sockets)
        if not sys.platform.startswith("linux"):  # elsewhere a bound socket keeps the server from using the port
            servers.close()
        try:
            if numbers != earlier:
                write_private(data_dir / FILE, orjson.dumps({"password": password, "ports": numbers}) + b"\n")
            for name in NAMES:
                make_directory(data_dir / name)
                write_private(data_dir / name / CONFIGURATION_FILE, servers.configuration(name), durable=False)
        except OSError as error:
            raise InvalidError(
                f"can't configure the NATS servers in {data_dir}: {os.strerror(error.errno or 0)}",
                reason="DATA_DIR_UNUSABLE",
            ) from None
        return servers

    @classmethod
    def running(cls, data_dir: Path) -> Self:
        """Return the servers that were prepared before, and may run: for clients of them.

        Raises:
            InvalidError: none were (`NATS_SERVERS_UNKNOWN`).
        """
        password, numbers = _read(data_dir / FILE)
        if len(numbers) != len(NAMES) * len(Ports._fields):
            raise InvalidError(f"{data_dir} has no NATS servers of `up --storage nats:`", reason="NATS_SERVERS_UNKNOWN")
        return cls(data_dir, "", password, _ports(numbers))

    def close(self) -> None:
        for each in self.reserved:
            each.close()

    def storage(self, parameters: str = "") -> str:
        """Return the URL of the storage, for routers, with further parameters such as `max_bytes=512M`.

        It contains the password.
        """
        clients = ",".join(f"{LOOPBACK}:{ports.client}" for ports in self.ports.values())
        monitors = ",".join(map(self.monitor, NAMES))
        query = "&".join(filter(None, (f"replicas={len(NAMES)}", f"monitor={monitors}", parameters)))
        return f"nats://{USER}:{self.password}@{clients}?{query}"

    def monitor(self, name: str) -> str:
        return f"{LOOPBACK}:{self.ports[name].monitor}"

    def programs(self, environment: Mapping[str, str]) -> list[ForeignProgram]:
        wrapped = [sys.executable, "-P", "-m", "cli.supervisor.exec_child", str(os.getpid()), self.program, "--config"]
        return [
            ForeignProgram(
                name,
                "nats",
                Command([*wrapped, str(self.data_dir / name / CONFIGURATION_FILE)], {**GO_THREADS, **environment}),
                lack=partial(self.lack, name),
                log_file=self.data_dir / name / LOG_FILE,
            )
            for name in NAMES
        ]

    async def lack(self, name: str) -> str:
        """Ask a server what it waits for; empty: it serves."""
        status, body = await probe("GET", self.monitor(name), "/healthz")
        if status == OK:
            return ""
        try:
            return str(orjson.loads(body)["error"])
        except (ValueError, KeyError, TypeError):
            return f"status {status} for /healthz" if status else "no answer"

    def configuration(self, name: str) -> bytes:
        """Return the configuration file of a server: JSON, which nats-server reads, and in which any path can stand.

        Source: https://docs.nats.io/running-a-nats-service/configuration
        """
        ports = self.ports[name]
        login = {"user": USER, "password": self.password}
        routes = [self.ports[each].route for each in NAMES if each != name]
        settings = {
            "server_name": name,
            "listen": f"{LOOPBACK}:{ports.client}",
            "http": f"{LOOPBACK}:{ports.monitor}",
            "authorization": login,
            "max_payload": MAX_PAYLOAD,
            "jetstream": {"store_dir": str(self.data_dir / name), "sync_interval": "always"},
            "cluster": {
                "name": CLUSTER,
                "listen": f"{LOOPBACK}:{ports.route}",
                "authorization": login,
                "routes": [f"nats://{USER}:{self.password}@{LOOPBACK}:{port}" for port in routes],
            },
            "log_file": str(self.data_dir / name / LOG_FILE),
            "log_size_limit": LOG_BYTES,
            "log_max_num": LOG_FILES,
        }
        return orjson.dumps(settings, option=orjson.OPT_INDENT_2) + b"\n"


def _read(path: Path) -> tuple[str, list[int]]:
    """Return the password and the ports that were chosen before; a new one, and none, if there is no sound file."""
    try:
        found = orjson.loads(path.read_bytes())
        return str(found["password"]), list(map(int, found["ports"]))
    except (OSError, ValueError, KeyError, TypeError):
        return os.urandom(24).hex(), []


def _ports(numbers: Sequence[int]) -> dict[str, Ports]:
    return {name: Ports(*numbers[3 * at : 3 * at + 3]) for at, name in enumerate(NAMES)}


def _bind(wanted: Sequence[int]) -> list[socket.socket]:
    """Bind a port for each purpose of each server: those that are wanted, others in place of those in use."""
    sockets: dict[int, socket.socket] = {}
    for at in range(len(NAMES) * len(Ports._fields)):
        port = wanted[at] if at < len(wanted) else _random_port()
        while port in sockets or (bound := _bind_one(port)) is None:
            port = _random_port()
        sockets[port] = bound
    return list(sockets.values())


def _bind_one(port: int) -> socket.socket | None:
    """Bind a port without listening: the kernel then gives it to nobody, but a server that asks for it can use it."""
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((LOOPBACK, port))
    except (OSError, OverflowError):
        bound.close()
        return None
    return bound


def _random_port() -> int:
    return FIRST_PORT + int.from_bytes(os.urandom(4)) % (LAST_PORT - FIRST_PORT + 1)
