"""What a local cluster consists of: settings of `flowhook up`, and the command of each process."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from cli.supervisor.command import Command
from flowhook.config import Port, PublicUrl
from flowhook.errors import ConflictError, InvalidError

LOOPBACK: Final = "127.0.0.1"

DRAIN_ORDER: Final = ("edge", "runner", "router", "admin")
"""First nothing comes in any more, then nothing runs, then nothing is stored; the operator sees it to the end."""


RUNNER_NICE: Final = 5
"""Runners take whatever the machine has while there is a backlog. The others go first: what they do is short, and it is
what senders and flows with little to do wait for (docs/performance.md, "Fairness")."""


class UpSettings(BaseSettings):
    """The local cluster."""

    model_config = SettingsConfigDict(
        env_prefix="FLOWHOOK_", env_ignore_empty=True, extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    data_dir: Path = Path("data")
    """Directory of the database, keys, tokens and pid files."""
    host: str = LOOPBACK
    """Address that senders reach; gRPC and admin stay on 127.0.0.1."""
    http_port: Port = 8080
    """Port that senders reach; 0 lets the system choose."""
    admin_port: Port = 8081
    """Port of health, metrics and the overview page; 0 lets the system choose."""
    grpc_port: Port = 50051
    """Port of the router; 0 lets the system choose."""
    edges: Annotated[int, Field(ge=1, le=64)] = 1
    """How many edges share the HTTP port."""
    routers: Annotated[int, Field(ge=1, le=64)] = 1
    """How many routers; SQLite allows one."""
    runners: Annotated[int, Field(ge=1, le=64)] = 2
    """How many runners."""
    storage: str = ""
    """Storage, sqlite:PATH; empty means flowhook.db in the data directory."""
    flows: Path | None = None
    """Directory or file of flows to apply at the start."""
    public_url: PublicUrl = ""
    """Scheme and host that senders use, where a proxy hides them; empty: those of the edges."""
    tls_cert_file: Path | None = None
    """PEM certificate, with its chain, that senders see; read again when it changes. Absent: no TLS. Of edges alone."""
    tls_key_file: Path | None = None
    """PEM key of that certificate."""
    tls_client_ca_file: Path | None = None
    """PEM certificates that senders' own ones are checked against, for `auth: {mtls: …}`."""
    proxy_protocol: bool = False
    """Whether senders' connections begin with a header of the PROXY protocol, from a balancer in front of the edges."""
    allow_private_addresses: bool = False
    """Let flows call private, loopback and link-local addresses."""

    def check(self) -> None:
        """Refuse what can't be started.

        Raises:
            InvalidError: the storage is not supported, or not by so many routers.
            ConflictError: a port is in use (`PORT_IN_USE`).
        """
        scheme = self.storage.partition(":")[0] if self.storage else "sqlite"
        if scheme != "sqlite":
            raise InvalidError(
                f"storage {scheme!r} is not supported yet; use sqlite:PATH", reason="STORAGE_NOT_SUPPORTED"
            )
        if self.routers > 1:
            raise InvalidError(
                f"--routers {self.routers}: with SQLite one router owns the database file; use --routers 1",
                reason="ROUTERS_NOT_SUPPORTED",
            )
        for option, host, port in (
            ("--http-port", self.host, self.http_port),
            ("--admin-port", LOOPBACK, self.admin_port),
            ("--grpc-port", LOOPBACK, self.grpc_port),
        ):
            check_port(option, host, port)

    def names(self, role: str) -> list[str]:
        """Return the names of the processes of a role, for example `runner-1` and `runner-2`."""
        count = {"edge": self.edges, "router": self.routers, "runner": self.runners, "admin": 1}[role]
        return [f"{role}-{number}" for number in range(1, count + 1)]

    def command(self, role: str, name: str, *, http_port: int, admin_port: int, grpc_port: int) -> Command:
        """Return how to start one process, with the ports known so far (0: it shall choose).

        Settings travel in the environment, tokens in files of the data directory.
        """
        environment = {key: value for key, value in os.environ.items() if key.upper() not in _NOT_INHERITED}
        environment.setdefault("FLOWHOOK_LOG_LEVEL", "warning")  # the supervisor tells of the lifecycle itself
        environment |= {
            "FLOWHOOK_DATA_DIR": str(self.data_dir.absolute()),
            "FLOWHOOK_ROUTER": f"{LOOPBACK}:{grpc_port}",
            "FLOWHOOK_PROCESS_NAME": name,
            "FLOWHOOK_HOST": self.host if role == "edge" else LOOPBACK,
            "FLOWHOOK_HTTP_PORT": str(http_port),
            "FLOWHOOK_REUSE_PORT": str(self.edges > 1).lower(),
            "FLOWHOOK_ADMIN_PORT": str(admin_port),
            "FLOWHOOK_GRPC_PORT": str(grpc_port),
            "FLOWHOOK_STORAGE": self.storage,
            "FLOWHOOK_ALLOW_PRIVATE_ADDRESSES": str(self.allow_private_addresses).lower(),
            "FLOWHOOK_PUBLIC_URL": self.public_url,
            "FLOWHOOK_PROXY_PROTOCOL": str(self.proxy_protocol).lower(),
        }
        if role == "runner" and not self.public_url:  # an edge takes the host that it is asked for
            scheme = "http" if self.tls_cert_file is None else "https"
            environment["FLOWHOOK_PUBLIC_URL"] = _url(scheme, self.host, http_port)
        if role == "edge":  # to a router the same variables mean TLS of gRPC
            environment |= {
                f"FLOWHOOK_{name.upper()}": str(path.absolute())
                for name in _EDGE_TLS
                if (path := getattr(self, name)) is not None
            }
        # -P: a folder called `router` where the user stands must not be taken for ours
        nice = RUNNER_NICE if role == "runner" else 0
        return Command([sys.executable, "-P", "-m", "cli", role], environment, nice)


def _url(scheme: str, host: str, port: int) -> str:
    """Return where this machine reaches a server: an address that means all of them is none."""
    reachable = LOOPBACK if host in ("", "0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    return f"{scheme}://[{reachable}]:{port}" if ":" in reachable else f"{scheme}://{reachable}:{port}"


_EDGE_TLS: Final = ("tls_cert_file", "tls_key_file", "tls_client_ca_file")

_NOT_INHERITED: Final = frozenset(
    {
        # how commands reach some router; the processes of a local cluster have tokens of their own, and a gRPC port
        # that is on the loopback address and speaks no TLS
        "FLOWHOOK_TOKEN",
        "FLOWHOOK_ROUTER_CA_FILE",
        "FLOWHOOK_CLIENT_CERT_FILE",
        "FLOWHOOK_CLIENT_KEY_FILE",
        *(f"FLOWHOOK_{name.upper()}" for name in _EDGE_TLS),
    }
)
"""Variables that not every process gets as they are."""


def check_port(option: str, host: str, port: int) -> None:
    """Refuse a port that somebody listens on. Blocking, briefly.

    Raises:
        ConflictError: it is in use (`PORT_IN_USE`).
        InvalidError: the address can't be listened on (`ADDRESS_UNUSABLE`).
    """
    if port == 0:
        return
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                f"port {port} on {host} is in use; stop what listens there, or choose another {option}",
                reason="PORT_IN_USE",
            ) from None
        raise InvalidError(f"can't listen on {host}:{port}: {error.strerror}", reason="ADDRESS_UNUSABLE") from None
