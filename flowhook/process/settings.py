"""Settings of each process: command-line options, else `FLOWHOOK_*` environment variables, else these defaults.

A setting `http_port` is `FLOWHOOK_HTTP_PORT` in the environment and `--http-port` on the command line. Those that
contain a secret can be in a file, see `confidential_settings`. Durations are seconds, sizes bytes.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from flowhook import limits
from flowhook.cron import check_cron
from flowhook.errors import InvalidError
from flowhook.process.confidential_settings import FileSettings, MayHaveSecret
from flowhook.process.router_addresses import split_addresses
from flowhook.security.address_policy import AddressPolicy

Port = Annotated[int, Field(ge=0, le=65535)]  # a TCP port; 0 lets the system choose
# a duration above 0: a timeout of 0 s would let nothing succeed
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Grace = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # a grace period for work in progress; 0 ends that at once
Count = Annotated[int, Field(ge=1)]  # a limit of 1 or more


def _check_target(value: str) -> str:
    try:
        return ",".join(split_addresses(value))
    except InvalidError as error:
        raise ValueError(error.message) from None


# targets of gRPC channels, separated by commas: host and port, or another name that gRPC resolves
Target = Annotated[str, AfterValidator(_check_target)]


def _check_public_url(value: str) -> str:
    parts = urlsplit(value.removesuffix("/"))
    if value and (
        parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query or parts.fragment
    ):
        raise ValueError("expected only scheme and host, such as https://hooks.example.com")
    return value.removesuffix("/")


def _check_health_path(value: str) -> str:
    if value and (not re.fullmatch(r"/(?:[A-Za-z0-9._~-]+/)*", value) or value.startswith(("/hook/", "/replies/"))):
        raise ValueError("expected a path with / at both ends, such as /_edge/, and not /hook/ or /replies/")
    return value


def _check_docs_url(value: str) -> str:
    parts = urlsplit(value)
    plain = value.isascii() and value.isprintable() and not set(value) & set('"\\ ')
    other = parts.query or parts.fragment or not plain
    if value and (parts.scheme not in ("http", "https") or not parts.netloc or other):
        raise ValueError("expected a URL without query, such as https://admin.example.com/docs")
    return value.removesuffix("/")


TRACE_ID = "{trace_id}"  # what `trace_url` has in place of a trace's ID


def _check_trace_url(value: str) -> str:
    parts = urlsplit(value)
    plain = value.isascii() and value.isprintable() and not set(value.replace(TRACE_ID, "")) & set('"\\ {}<>')
    placed = value.count(TRACE_ID) == 1 and TRACE_ID not in parts.netloc
    if value and (
        parts.scheme not in ("http", "https") or not parts.hostname or parts.username or not plain or not placed
    ):
        raise ValueError(
            "expected a URL with {trace_id} once after its host, such as https://traces.example/{trace_id}"
        )
    return value


TraceUrl = Annotated[str, AfterValidator(_check_trace_url)]  # URL with `TRACE_ID` once after its host; or empty
# URL without query and fragment; or empty. A trailing `/` is removed.
DocsUrl = Annotated[str, AfterValidator(_check_docs_url)]
# a path with `/` at both ends that is not one of flows or replies; or empty
HealthPath = Annotated[str, AfterValidator(_check_health_path)]
# Scheme and host, with an optional port; or empty. A trailing `/` is removed.
PublicUrl = Annotated[str, AfterValidator(_check_public_url)]


def _check_host_names(value: str) -> str:
    for name in filter(None, (each.strip() for each in value.split(","))):
        if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", name):
            raise ValueError("expected host names without scheme and port, such as admin.example.com,10.0.0.7")
    return value


def _check_backup_target(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme == "s3":
        if not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("expected s3://bucket/prefix; credentials come from AWS_… variables")
    elif "://" in value:
        raise ValueError("expected a directory, or s3://bucket/prefix")
    return value


def _check_cron(value: str) -> str:
    try:
        check_cron(value)
    except InvalidError as error:
        raise ValueError(error.message) from None
    return value


BackupTarget = Annotated[str, AfterValidator(_check_backup_target)]  # a directory, or `s3://bucket/prefix`
Cron = Annotated[str, AfterValidator(_check_cron)]  # a cron expression
HostNames = Annotated[str, AfterValidator(_check_host_names)]  # names or addresses of hosts, separated by commas


class CommonSettings(FileSettings):
    """Settings of every process and every client command."""

    data_dir: Path = Path("data")
    """Directory of the database, keys and tokens."""
    router: Target = "127.0.0.1:50051"
    """Address of the router, `host:port`; several are separated by commas (at most 16): the one that owns the data is
    followed."""
    token: SecretStr | None = None
    """Bearer token; when absent it is read from a file in `data_dir`, see `read_token`."""
    router_ca_file: Path | None = None
    """PEM certificates that the router's TLS certificate is checked against; absent: no TLS."""
    client_cert_file: Path | None = None
    """PEM certificate that this process shows to the router (mTLS)."""
    client_key_file: Path | None = None
    """PEM key of that certificate."""
    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""
    log_format: str = "auto"
    """`json`, `console`, or `auto`: console on a terminal, else json."""
    process_name: str = ""
    """Role and number, for example `edge-1`; made of role, process ID and host name when empty."""
    health_port: Port | None = None
    """Private port of a process for `/healthz`, `/readyz` and `/metrics`; 0 lets the system choose; absent: none."""
    health_host: str = "127.0.0.1"
    """Address that the private port listens on."""

    @property
    def directories(self) -> tuple[Path, ...]:
        return (self.data_dir,)


class TracedSettings(CommonSettings):
    """Settings of processes that export spans."""

    traces: bool = False
    """Whether spans are exported over OTLP, as the variables `OTEL_…` say; needs the extra `otel`."""


class EdgeSettings(TracedSettings):
    """The HTTP process that senders reach."""

    host: str = "127.0.0.1"
    """Address that senders reach."""
    http_port: Port = 8080
    """Port that senders reach; 0 lets the system choose."""
    reuse_port: bool = False
    """Whether other edges on this machine may listen on the same port."""
    health_path: HealthPath = "/"
    """Path below which the port of senders answers `healthz` and `readyz` with one word; empty: nowhere."""
    public_url: PublicUrl = ""
    """Scheme and host that senders use, if a proxy changes them; for signatures that cover the URL."""
    docs_url: DocsUrl = ""
    """URL of Flowhook's documentation for senders, to which problem details refer; empty: they refer to nothing."""
    trusted_proxies: str = ""
    """Networks of proxies, separated by commas, whose `Forwarded` and `X-Forwarded-…` headers are trusted."""
    proxy_protocol: bool = False
    """Whether connections begin with a header of the PROXY protocol, version 1 or 2; others are closed then."""
    tls_cert_file: Path | None = None
    """PEM certificate, with its chain, that senders see; read again when it changes. Absent: no TLS."""
    tls_key_file: Path | None = None
    """PEM key of that certificate."""
    tls_client_ca_file: Path | None = None
    """PEM certificates of the authorities that issue senders' certificates, for `auth: {mtls: …}`; read again when it
    changes."""
    tls_client_common_names: bool = False
    """Whether the common name of a sender's certificate counts although it has alternative names."""
    allow_private_addresses: bool = False
    """Whether public keys may be fetched from private, loopback and link-local addresses (`auth: {jwt: {jwks: …}}`)."""
    allow_loopback_addresses: bool = False
    """Whether public keys may be fetched from this machine."""
    header_timeout: Seconds = 10.0
    """Time within which the head of a request must arrive."""
    body_timeout: Seconds = 60.0
    """Time within which the body of a request must arrive."""
    idle_timeout: Seconds = 75.0
    """Time after which a connection without a request is closed."""
    max_connections: Count = 10_000
    """Concurrent connections; beyond it the one that is idle longest is closed or, if none is idle, the new one."""
    max_connections_per_address: Count = 1000
    """Concurrent connections of one address, or of one /64 of IPv6; trusted proxies are exempt."""
    flow_cache_size: Count = 10_000
    """Flows, known and unknown, that an edge caches."""
    max_pending_events: Count = 10_000
    """Requests that may wait for the router; beyond it the edge answers 503."""
    max_held_requests: Count = 2000
    """Requests that may wait for the answer of their flow; beyond it, or half of it per flow or address, they fail."""
    router_timeout: Seconds = 15.0
    """Time that a request may wait for the router before the edge answers 503."""
    traces_trust_senders: bool = False
    """Whether a request is traced if its sender's `traceparent` says so; else the share that `OTEL_TRACES_SAMPLER_ARG`
    names decides alone."""
    drain_seconds: Grace = 10.0
    """Time that work in progress may take after the process receives SIGTERM."""

    @property
    def address_policy(self) -> AddressPolicy:
        return AddressPolicy.of(private=self.allow_private_addresses, loopback=self.allow_loopback_addresses)


class RouterSettings(CommonSettings):
    """The gRPC process that owns storage."""

    host: str = "127.0.0.1"
    """Address that gRPC listens on."""
    grpc_port: Port = 50051
    """Port that gRPC listens on; 0 lets the system choose."""
    storage: MayHaveSecret = ""
    """`sqlite:PATH`, or `nats://HOST:PORT,…` for a log that is replicated by NATS JetStream; empty:
    `sqlite:<data_dir>/flowhook.db`."""
    view_dir: Path | None = None
    """Directory of this router's copy of the data in a replicated log; absent: `<data_dir>/view`."""
    advertise: str = ""
    """Address, `host:port`, at which clients reach this router if it owns the replicated log; empty: where gRPC
    listens."""
    nats_creds_file: Path | None = None
    """Credentials file for NATS (JWT and seed), if the storage's URL names no user and password."""
    nats_ca_file: Path | None = None
    """PEM certificates that the TLS certificates of NATS servers are checked against; absent: those of the system."""
    snapshot_log_bytes: Count = 256 * limits.MIB
    """Growth of the replicated log after which a snapshot is made, so that the log can be purged."""
    snapshot_seconds: Seconds = 1800.0
    """Time after which a snapshot is made in any case, if the replicated log grew."""
    storage_max_bytes: Annotated[int, Field(ge=0)] = 0
    """Size the database may grow to before events are refused with 503; 0: the disk is the limit."""
    tls_cert_file: Path | None = None
    """PEM certificate of the router; read again when it changes. Absent: no TLS."""
    tls_key_file: Path | None = None
    """PEM key of that certificate."""
    tls_client_ca_file: Path | None = None
    """PEM certificates of the authorities of clients' certificates (mTLS), read again when it changes; if set, clients
    must present one."""
    secrets_key: SecretStr | None = None
    """32 bytes in base64 that encrypt secrets; absent: `<data_dir>/secrets.key`, which is created if it is missing."""
    discard_secrets: bool = False
    """Whether a router whose key for secrets is missing, or not the one of its data, deletes all secrets, and goes on
    with the key that is there or with a new one; else it does not start."""
    allow_private_addresses: bool = False
    """Whether runners and edges may reach private, loopback and link-local addresses: if not, flows that name such an
    address are applied with a warning."""
    allow_loopback_addresses: bool = False
    """The same for loopback addresses alone."""
    total_backlog: Count = limits.DEFAULT_TOTAL_BACKLOG
    """Unfinished executions of all flows; beyond it events are refused with 503."""
    lease_seconds: Seconds = limits.LEASE_SECONDS
    """Time after which the work of a silent runner is given to another runner."""
    max_uploads: Count = limits.MAX_UPLOADS
    """Large bodies that are uploaded concurrently by senders that are authenticated before the body arrives, and as
    many by others; beyond it requests with such bodies are refused with 503."""
    max_upload_bytes: Count = limits.MAX_UPLOAD_BYTES
    """Total bytes of large bodies that are being uploaded, or wait for their events."""
    max_attempts: Count = limits.MAX_ATTEMPTS
    """Attempts charged to an execution before it is faulted."""
    retention_seconds: Seconds = 30 * 24 * 3600.0
    """Time for which an ended execution, its body and its journal are retained."""
    retention_bytes: Annotated[int, Field(ge=0)] = 0
    """Size of the data beyond which the executions that ended first are removed; 0: any."""
    retention_min_seconds: Annotated[float, Field(ge=0)] = 3600.0
    """Time for which an ended execution is retained however large the data is."""
    callback_seconds: Seconds = 7 * 24 * 3600.0
    """Time for which a callback or an event is buffered that no execution listens for yet."""
    backup_target: BackupTarget = ""
    """Where backups are stored: a directory, or `s3://bucket/prefix` (extra `s3`); empty: none are made."""
    backup_schedule: Cron = "0 3 * * *"
    """When backups are made, by the router that owns the data: a cron expression, in UTC."""
    backup_keep_last: Count = 3
    """The newest backups that are kept; older ones are removed, but for those of `backup_keep_daily` and
    `backup_keep_weekly`."""
    backup_keep_daily: Annotated[int, Field(ge=0)] = 7
    """Newest days (UTC) of each of which the last backup is kept."""
    backup_keep_weekly: Annotated[int, Field(ge=0)] = 4
    """Newest weeks (ISO 8601) of each of which the last backup is kept."""
    drain_seconds: Grace = 10.0
    """Time that work in progress may take after the process receives SIGTERM."""

    @property
    def directories(self) -> tuple[Path, ...]:
        scheme, _, path = self.storage.partition(":")
        database = (Path(path).parent,) if scheme == "sqlite" else ()
        return (self.data_dir, *database, *filter(None, (self.view_dir,)))

    def database(self, storage: str = "") -> Path | None:
        """Return the path of the database of the embedded storage; None: it is a replicated log.

        `storage` stands for the one that is set. Raises InvalidError if it is neither (`STORAGE_UNSUPPORTED`).
        """
        scheme, _, path = (storage or self.storage or f"sqlite:{self.data_dir / 'flowhook.db'}").partition(":")
        if scheme in ("nats", "tls"):
            return None
        if scheme != "sqlite" or not path:
            raise InvalidError(
                f"storage {scheme!r} is not supported; use sqlite:PATH or nats://HOST:PORT",
                reason="STORAGE_UNSUPPORTED",
            )
        return Path(path)

    @property
    def address_policy(self) -> AddressPolicy:
        return AddressPolicy.of(private=self.allow_private_addresses, loopback=self.allow_loopback_addresses)


class RunnerSettings(TracedSettings):
    """The process that executes flows."""

    concurrency: Annotated[int, Field(ge=1, le=4096)] = 256
    """Executions worked on at a time."""
    expression_seconds: Seconds = limits.EXPRESSION_SECONDS
    """Time that the evaluation of one expression may take."""
    expression_bytes: Count = limits.EXPRESSION_BYTES
    """Memory that the evaluation of one expression may take."""
    allow_private_addresses: bool = False
    """Whether calls may reach private, loopback and link-local addresses."""
    allow_loopback_addresses: bool = False
    """Whether calls may reach loopback addresses, which are those of this machine."""
    allow_processes: bool = False
    """Whether flows may start processes (`run.script`, `run.shell`), which can do what the runner's user can."""
    http_timeout: Seconds = 30.0
    """Deadline of one outbound HTTP request whose task sets none."""
    public_url: PublicUrl = ""
    """Scheme and host of the one-time URLs that flows hand out; empty: they begin with the path."""
    event_sink: str = ""
    """URL that receives every event that a flow emits, unless its task names another; empty: none."""
    traces_queue: Literal["parent", "link"] = "parent"
    """Whether the span of an execution's first attempt is a child of the span by which its event was stored, within 15
    minutes, or always begins a trace of its own that links to it."""
    pass_trace_context: bool = True
    """Whether calls carry the `traceparent` and `tracestate` of the request that started their execution."""
    losses_explained: bool = False
    """Whether the end of an earlier runner of this name had another cause than its work, such as an operator who ended
    it: no attempt is charged for that."""
    twitter_base_url: str = "https://api.x.com"
    """Base URL of the API that `twitter.post` calls."""
    drain_seconds: Grace = 10.0
    """Time that work in progress may take after the process receives SIGTERM."""

    @property
    def address_policy(self) -> AddressPolicy:
        return AddressPolicy.of(private=self.allow_private_addresses, loopback=self.allow_loopback_addresses)


class AdminSettings(CommonSettings):
    """The HTTP process that operators reach."""

    host: str = "127.0.0.1"
    """Address that operators reach."""
    admin_port: Port = 8081
    """Port that operators reach; 0 lets the system choose."""
    trusted_proxies: str = ""
    """Networks of proxies, separated by commas, whose `Forwarded` and `X-Forwarded-…` headers say whose requests they
    pass on: limits apply to each client, and the audit log has its address."""
    max_connections: Count = 1000
    """Concurrent connections; beyond it the one that is idle longest is closed or, if none is idle, the new one."""
    max_connections_per_address: Count = 200
    """Concurrent connections of one address, or of one /64 of IPv6; trusted proxies are exempt."""
    admin_hosts: HostNames = ""
    """Host names, separated by commas and without ports, by which operators reach it; `host`, `localhost`,
    loopback addresses and the local address of a connection are always accepted."""
    public_url: PublicUrl = ""
    """Scheme and host of the URLs that the console shows to be given to senders; empty: those that an edge reports."""
    trace_url: TraceUrl = ""
    """URL of a trace where traces are looked at, with `{trace_id}` in place of its ID; the page of an execution links
    to it. Empty: it does not."""
    admin_tls_cert_file: Path | None = None
    """PEM certificate, with its chain, that operators see; read again when it changes. Absent: no TLS."""
    admin_tls_key_file: Path | None = None
    """PEM key of that certificate."""
    login_code: SecretStr | None = None
    """Code of a link that logs in once, from this machine; `flowhook up` makes one at each start."""
    edge_ca_file: Path | None = None
    """PEM certificates of the authorities of the edges' certificate, for test events; absent: those of the system."""
    edge_cert_file: Path | None = None
    """PEM certificate of the edges of this machine's cluster, which alone is trusted, whatever its name."""

    def names(self) -> frozenset[str]:
        """Return the names that the `Host` header may have, lower-case."""
        names = (*self.admin_hosts.split(","), self.host)
        return frozenset(name for each in names if (name := each.strip().lower().removesuffix(".")))


def read_token(settings: CommonSettings, *names: str) -> str:
    """Return the bearer token to show to the router: `token`, else the file `<data_dir>/<name>.token`.

    `names` are built-in tokens, of `admin`, `edge`, `runner` and `view`, by preference: the first whose file exists.

    Raises:
        InvalidError: there is no token (`TOKEN_MISSING`); the message names the file that was tried.
    """
    if settings.token is not None:
        return settings.token.get_secret_value()
    paths = [settings.data_dir / f"{name}.token" for name in names]
    path = next((path for path in paths if path.exists()), paths[0])
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise InvalidError(
            f"no token: set FLOWHOOK_TOKEN, or FLOWHOOK_DATA_DIR to the router's data directory ({path}: "
            f"{os.strerror(error.errno or 0)})",
            reason="TOKEN_MISSING",
        ) from None
