"""`flowhook up`: runs a local cluster; its settings, from options, the environment and defaults."""

from __future__ import annotations

import ipaddress
import os
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from cli import failures
from cli.options import read_settings, settings_command
from cli.supervisor import SPEC
from cli.supervisor.cluster_spec import DEFAULT_GRPC_PORT, LOOPBACK, ClusterSpec
from flowhook.errors import FlowhookError, InvalidFlowError
from flowhook.process.confidential_settings import FileSettings, MayHaveSecret
from flowhook.process.router_addresses import MAX_ROUTERS
from flowhook.process.settings import Grace, Port, PublicUrl


class UpSettings(FileSettings):
    """The local cluster."""

    data_dir: Path = Path("data")
    """Directory of the database, keys, tokens and pid files."""
    host: str = LOOPBACK
    """Address that senders reach; gRPC and admin stay on 127.0.0.1."""
    http_port: Port = 8080
    """Port that senders reach; 0 lets the system choose."""
    admin_port: Port = 8081
    """Port of health, metrics and the console; 0 lets the system choose."""
    grpc_port: Port = DEFAULT_GRPC_PORT
    """Port of the first router; 0 lets the system choose, as it does for the others."""
    edges: Annotated[int, Field(ge=1, le=64)] = 1
    """How many edges share the HTTP port."""
    routers: Annotated[int, Field(ge=1, le=MAX_ROUTERS)] = 1
    """How many routers; SQLite allows one, a replicated log more: one owner, and standbys."""
    runners: Annotated[int, Field(ge=1, le=64)] = 2
    """How many runners."""
    storage: MayHaveSecret = ""
    """Storage: sqlite:PATH; nats: for a replicated log on three NATS servers that are started here, or nats://HOST:PORT,…
    for one on other servers. Empty: flowhook.db in the data directory."""
    flows: Path | None = None
    """Directory or file of flows to apply at the start."""
    public_url: PublicUrl = ""
    """Scheme and host that senders use, where a proxy hides them; empty: those of the edges."""
    tls_cert_file: Path | None = None
    """PEM certificate, with its chain, that senders see; read again when it changes. Absent: no TLS. Of edges alone."""
    tls_key_file: Path | None = None
    """PEM key of that certificate."""
    tls_client_ca_file: Path | None = None
    """PEM certificates of the authorities that issue senders' certificates, for `auth: {mtls: …}`."""
    proxy_protocol: bool = False
    """Whether senders' connections begin with a header of the PROXY protocol, from a balancer in front of the edges."""
    allow_private_addresses: bool = False
    """Let flows call private, loopback and link-local addresses."""
    allow_loopback_addresses: bool | None = None
    """Let flows call loopback addresses, which are those of this machine. Default: if `host` is one and `public_url` is
    empty, so that only this machine sends events."""
    drain_seconds: Grace = 10.0
    """Time that work in progress may take after `up` receives SIGTERM or SIGINT; of each process."""

    def spec(self) -> ClusterSpec:
        """Return the settings as a specification: plain values, with absolute paths."""
        paths = {
            name: str(value.absolute())
            for name in UpSettings.model_fields
            if isinstance(value := getattr(self, name), Path)
        }
        allowed = self.allow_loopback_addresses
        if allowed is None:
            allowed = _is_loopback(self.host) and not self.public_url
        plain = self.model_dump(include=set(UpSettings.model_fields))
        return ClusterSpec(**{**plain, **paths, "allow_loopback_addresses": allowed})


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _start(settings: UpSettings) -> int:
    try:
        return _up(settings)
    except FlowhookError as error:
        return failures.report_end(error)


def _up(settings: UpSettings) -> int:
    """Check everything that can be refused before anything is started; then exec the supervisor.

    The process ID stays the same, but the code that only the checks need is no longer in memory: the supervisor lives
    as long as the cluster.
    """
    from cli.supervisor.rundir import RunDir

    check(settings)
    if settings.flows is not None:
        from cli import flow_files

        # `cli.applying` fetches functions of catalogs, and decides about those that are away
        if faults := flow_files.check_flow_files([settings.flows], {}, fetches=False)[1]:
            raise InvalidFlowError(faults)
    spec = settings.spec()
    with closing(RunDir(settings.data_dir)):
        prepare(settings, spec)
    sys.stdout.flush()
    # the supervisor ignores the last arguments; they identify the process in a process list
    arguments = [sys.executable, "-P", "-m", "cli.supervisor", "flowhook", *sys.argv[1:]]
    os.execve(sys.executable, arguments, {**os.environ, SPEC: replace(spec, program=program()).to_json()})  # noqa: S606 - no shell is wanted


def check(settings: UpSettings) -> None:
    """Refuse limits and certificates with which no cluster starts, before anything is written."""
    from flowhook.process import kernel

    kernel.ensure_limit()
    if (settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file) != (None, None, None):
        from flowhook.process.server_certificates import load_certificates

        load_certificates(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)


def prepare(settings: UpSettings, spec: ClusterSpec) -> None:
    """Check that the cluster can be started, and create tokens and keys; the caller has locked its directory."""
    from flowhook.security.private_files import restrict_permissions
    from flowhook.security.tokens import ensure_tokens

    spec.check()
    restrict_permissions(settings.data_dir)
    ensure_tokens(settings.data_dir)
    if spec.replicated:
        from flowhook.process.settings import RouterSettings
        from router.storage.encryption import load_secrets_key

        # creates the key of secrets if there is none: one router of several must not create its own
        load_secrets_key(settings.data_dir, read_settings(RouterSettings, {}).secrets_key)


def program() -> str:
    """Return the command as the user wrote it; `python -m cli` has no better name than its own."""
    return sys.argv[0] if Path(sys.argv[0]).name == "flowhook" else "flowhook"


command = settings_command(
    UpSettings, _start, help_text="Run a local cluster: edges, routers, runners and admin. Ctrl-C drains and stops it."
)
