"""The composition root of the admin process."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry

from admin.application import application
from admin.console import rendering
from admin.console.documentation import documentation
from admin.console.page import SILENCE_SECONDS
from admin.handlers import MAX_BODY, AdminContext
from admin.security.router_clients import RouterClients
from admin.security.sessions import LoginLink
from admin.server import Server
from flowhook.client import AsyncClient
from flowhook.client.channel import open_channel
from flowhook.http.forwarded import TrustedProxies, parse_networks
from flowhook.http.listening import listen
from flowhook.limits import MAX_HEADER_BYTES
from flowhook.process import kernel
from flowhook.process.installation import import_late
from flowhook.process.metrics import expose, process_metrics
from flowhook.process.process_state import ProcessState
from flowhook.process.server_certificates import Certificates, load_certificates
from flowhook.process.settings import AdminSettings, read_token
from flowhook.providers.sample_files import all_samples
from flowhook.reporting.process_reports import ProcessReporter
from flowhook.sharing import FairQueue, current_principal
from flowhook.sharing.table import AdminLimits
from operations.edges import EdgeAccess
from operations.search import ConditionEvaluator
from operations.tools import Tools, Tracer, attachment_finder

# seconds within which the router must respond: health checkers (Kubernetes, for example) wait for 1 s
ROUTER_TIMEOUT: Final = 0.8
# seconds within which the router must respond to calls on behalf of people and programs. A page is shown earlier if the
# router hangs; see `admin.console.page`.
CALL_TIMEOUT: Final = 10.0
# token names to try, in order, when no token is configured. `view` suffices: with this token the process reads health
# and metrics only, and everything else with the tokens of those who ask. An older data directory has no `view.token`.
TOKENS: Final = ("view", "admin")
# modules that few need, and that are imported once this process is ready; see `flowhook.process.installation`
LATE_IMPORTS: Final = (
    "operations.diagram.svg",
    "operations.flow_reach",
    "aiohttp",
    "cryptography.hazmat.primitives.serialization",
    "cryptography.x509",
    "flowhook.reporting.process_reports",
    "operations.search_conditions",
    "operations.search",
    "flowhook.events.workflow_input",
    "jinja2.debug",
    "yarl",
)
IDLE_SECONDS: Final = 75.0
BODY_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0  # time that requests in progress have to end before this process stops
RENEWAL_SECONDS: Final = 10.0  # between two looks at the files of the certificate


async def serve(
    settings: AdminSettings,
    process_state: ProcessState,
    tracer: Tracer | None = None,
    *,
    limits: AdminLimits = AdminLimits(),
) -> None:
    """Serve until `lifecycle.stop` is set. An unreachable router is no error: this process is there to report it.

    `tracer` computes traces of executions; it is owned by the caller.

    Raises:
        InvalidError: there is no token, a TLS file can't be read, or a setting is invalid.
        UnavailableError: the address can't be bound (`PORT_UNAVAILABLE`).
    """

    def connect(token: str, timeout: float = CALL_TIMEOUT) -> AsyncClient:
        return AsyncClient(
            settings.router,
            token=token,
            ca_file=settings.router_ca_file,
            cert_file=settings.client_cert_file,
            key_file=settings.client_key_file,
            timeout=timeout,
        )

    late_imports = partial(import_late, LATE_IMPORTS)
    process_state.late_loads = (late_imports, rendering.load_templates, all_samples, documentation)
    token = read_token(settings, *TOKENS)
    proxies, turns = TrustedProxies(parse_networks(settings.trusted_proxies)), FairQueue(limits.computations)
    client, watch = connect(token, ROUTER_TIMEOUT), connect(token, SILENCE_SECONDS)
    certificates = load_certificates(settings.admin_tls_cert_file, settings.admin_tls_key_file, prefix="--admin-")
    async with (
        process_metrics(process_state) as exposed,
        client,
        watch,
        open_channel(settings, *TOKENS) as channel,
        aclosing(RouterClients(connect)) as clients,
        aclosing(ConditionEvaluator(turn=lambda: turns.seat(current_principal.get()))) as evaluator,
        aclosing(attachment_finder()) as attachments,
    ):
        edges = EdgeAccess(settings.public_url, settings.edge_ca_file, settings.edge_cert_file)
        code = "" if settings.login_code is None else settings.login_code.get_secret_value()
        context = AdminContext(
            client,
            watch,
            settings.names(),
            clients,
            login_link=LoginLink(code, lambda: read_token(settings, "admin"), time.monotonic()),
            limits=limits,
            proxies=proxies,
            process_state=process_state,
            tools=Tools(evaluator, tracer, attachments, edges, turns),
            trace_url=settings.trace_url,
        )
        expose(own := CollectorRegistry(), {"flowhook_console_streams": lambda: len(context.streams)})
        exposed.registries.append(own)
        sockets = listen(settings.host, settings.admin_port)
        server = Server(
            application(context),
            max_connections=kernel.connection_limit(settings.max_connections),
            max_of_one=settings.max_connections_per_address,
            shared=proxies.trusts,
            tls=None if certificates is None else certificates.context,
            idle_connection_timeout=IDLE_SECONDS,
            max_header_size=MAX_HEADER_BYTES,
            max_body_size=MAX_BODY,
            body_timeout=BODY_SECONDS,
        )
        server.add_sockets(sockets)
        process_state.announce("http", settings.host, sockets[0].getsockname()[1])
        process_state.connections = lambda: server.connections
        async with asyncio.TaskGroup() as group:
            reporter = group.create_task(ProcessReporter(channel, process_state).run(), name="report")
            renewal = group.create_task(_renew(server, certificates), name="renew the certificate")
            process_state.ready.set()
            await process_state.stop.wait()
            reporter.cancel()
            renewal.cancel()
        server.stop()
        await context.requests.wait_for_end(STOP_SECONDS, excluding=context.streams)
        await server.close_all_connections()
        await context.requests.wait_for_end(STOP_SECONDS)


async def _renew(server: Server, certificates: Certificates | None) -> None:
    while certificates is not None:
        await asyncio.sleep(RENEWAL_SECONDS)
        await asyncio.to_thread(certificates.refresh)
        server.renew_tls(certificates.context)
