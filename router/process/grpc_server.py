"""The router's gRPC server: options, TLS, authorization, its port; and that of a router that does not own the shard."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import attrs
import grpc
import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_reflection.v1alpha import reflection
from typing_extensions import override

from flowhook.client.channel import SERVER_OPTIONS
from flowhook.errors import ConflictError, UnavailableError
from flowhook.process import logs
from flowhook.process.server_certificates import load_certificates
from flowhook.process.settings import RouterSettings
from flowhook.security.tokens import TokenVerifier
from flowhook.sharing.table import RouterLimits
from router.calls.audit_recorder import AuditRecorder
from router.calls.authorization import Authorizer, check_scopes_listed, refusal
from router.calls.call_decoding import MessageDecoding
from router.calls.call_durations import CallDurations
from router.calls.call_limits import CallLimits
from router.calls.token_masking import TokenMasking
from router.cluster.ownership import KnownOwner
from router.services.health import HealthService
from router.services.shards import ShardService


def _services(*names: str) -> tuple[ServiceDescriptor, ...]:
    files = (import_module(f"flowhook.v1.{name}_service_pb2").DESCRIPTOR for name in names)
    return tuple(service for file in files for service in file.services_by_name.values())


# services that only the owner of the shard offers
OWNER_SERVICES: Final = _services(
    *("ingest", "flow", "incident", "secret", "rejection", "execution", "job", "runner", "cluster", "audit")
)
(SHARD_SERVICE,) = _services("shard")


def new_server(
    verifier: TokenVerifier,
    limits: RouterLimits,
    audit: AuditRecorder | None = None,
    durations: CallDurations | None = None,
) -> grpc.aio.Server:
    """Return a server that authorizes all calls, and records those that `audit` names; without services and a port.

    Raises:
        InternalError: a method of a service is not in the table of scopes.
    """
    check_scopes_listed((*OWNER_SERVICES, SHARD_SERVICE))
    logs.silence_decoding()
    return grpc.aio.server(
        interceptors=[
            Authorizer(verifier, CallLimits(limits)),
            TokenMasking(),
            *filter(None, (audit, durations)),
            MessageDecoding(),
        ],
        options=(*SERVER_OPTIONS, ("grpc.server_handshake_timeout_ms", int(limits.handshake_seconds * 1000))),
    )


def add_service(server: grpc.aio.Server, servicer: object) -> None:
    base = next(each for each in type(servicer).__mro__ if each.__module__.endswith("_pb2_grpc"))
    getattr(sys.modules[base.__module__], f"add_{base.__name__}_to_server")(servicer, server)


def service_names() -> list[str]:
    return [service.full_name for service in (*OWNER_SERVICES, SHARD_SERVICE)]


def enable_reflection(server: grpc.aio.Server) -> None:
    reflection.enable_server_reflection([*service_names(), HEALTH_SERVICE, reflection.SERVICE_NAME], server)


def bind(server: grpc.aio.Server, settings: RouterSettings, port: int) -> int:
    """Bind a port, 0 for any that is free, with TLS when there is a certificate, and return it.

    Raises:
        InvalidError: a TLS file can't be read, or contains something else (`TLS_FILES_INVALID`).
        ConflictError: the address can't be bound (`ADDRESS_IN_USE`).
    """
    address = f"[{settings.host}]:{port}" if ":" in settings.host else f"{settings.host}:{port}"
    credentials = _tls(settings)
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError:
        raise ConflictError(
            f"can't listen on {address}: the address is in use, or not one of this machine's", reason="ADDRESS_IN_USE"
        ) from None


def _tls(settings: RouterSettings) -> grpc.ServerCredentials | None:
    """Return credentials whose files are looked at before each handshake, and read again when they changed."""
    cert_file, key_file, client_ca = settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file
    files = load_certificates(cert_file, key_file, client_ca)
    if files is None or cert_file is None or key_file is None:
        return None

    def read() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(key_file.read_bytes(), cert_file.read_bytes())],
            root_certificates=None if client_ca is None else client_ca.read_bytes(),
        )

    changed = False

    def read_changed() -> grpc.ServerCertificateConfiguration | None:
        """Return the files if they changed and can be used, else None. gRPC calls this in threads, one at a time."""
        nonlocal changed
        changed = files.refresh() or changed
        if not changed:
            return None
        try:
            configuration = read()
        except OSError:  # replaced again: the next handshake finds them
            return None
        changed = False
        return configuration

    return grpc.dynamic_ssl_server_credentials(
        read(),
        read_changed,  # type: ignore[arg-type] # unlike what the stubs say, it may return None
        client_ca is not None,
    )


_METHODS: Final = frozenset(
    f"/{service.full_name}/{method.name}" for service in OWNER_SERVICES for method in service.methods
)


@attrs.define(eq=False, repr=False)
class StandbyServer:
    """Answers ShardService and health checks; calls that only the owner answers fail with `SHARD_MOVED`."""

    _settings: RouterSettings
    _verifier: TokenVerifier
    _shards: ShardService  # answers who owns the shard
    _owner: Callable[[], KnownOwner | None]  # returns the owner
    _server: grpc.aio.Server | None = attrs.field(init=False, default=None)

    async def start(self, port: int) -> int:
        """Start, unless it runs, and return the port that it listens on (given 0: any).

        Raises:
            FlowhookError: the port or a certificate can't be used.
        """
        if self._server is not None:
            return port
        server = new_server(self._verifier, RouterLimits())
        add_service(server, self._shards)
        add_service(server, HealthService(service_names(), standby=True))
        enable_reflection(server)
        server.add_generic_rpc_handlers((_Elsewhere(self._owner),))
        port = bind(server, self._settings, port)
        await server.start()
        self._server = server
        return port

    async def stop(self) -> None:
        """Stop, and free the port; no effect if it does not run."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)


@attrs.define(eq=False, repr=False)
class _Elsewhere(grpc.GenericRpcHandler):  # type: ignore[type-arg] # generic in the stubs alone
    """Refuses the calls that only the owner answers."""

    _owner: Callable[[], KnownOwner | None]

    @override
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        if handler_call_details.method not in _METHODS:
            return None
        owner = self._owner()
        where = "no router owns it now" if owner is None else f"{owner.router} at {owner.address} owns it"
        return refusal(UnavailableError(f"this router does not own the shard: {where}", reason="SHARD_MOVED"))
