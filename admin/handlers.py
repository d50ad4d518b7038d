"""HTTP handlers of the admin process: `/healthz`, `/readyz`, `/health`, `/metrics` and the overview page."""

from __future__ import annotations

import asyncio
import http
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
import tornado.web

import flowhook
from admin import exposition, health, host_check
from flowhook.client import AsyncClient, ProcessInfo
from flowhook.errors import FlowhookError

if TYPE_CHECKING:
    from tornado.http1connection import HTTP1Connection

FOLDER: Final = Path(__file__).parent


def application(client: AsyncClient, names: Collection[str]) -> tornado.web.Application:
    """Return the application; the caller owns `client`. `names`: see `host_check`."""
    context = {"client": client, "names": names}
    return tornado.web.Application(
        [
            ("/", OverviewHandler, context),
            ("/healthz", LivenessHandler, context),
            ("/readyz", ReadinessHandler, context),
            ("/health", HealthHandler, context),
            ("/metrics", MetricsHandler, context),
        ],
        default_handler_class=NotFoundHandler,
        default_handler_args=context,
        template_path=str(FOLDER),
        log_function=lambda _handler: None,  # silent in normal operation; failures are logged where they happen
    )


class BaseHandler(tornado.web.RequestHandler):
    """Base class of all handlers: HEAD like GET, problem details for errors, no caching."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    def initialize(self, client: AsyncClient, names: Collection[str]) -> None:
        """Store the arguments of the application."""
        self.client = client
        self._names = names

    def prepare(self) -> None:
        """Refuse a request whose Host is not a name of this process (see `host_check`)."""
        connection = cast("HTTP1Connection", self.request.connection)
        own_address = connection.stream.socket.getsockname()[0]
        if not host_check.is_allowed_host(self.request.headers.get("Host"), own_address, self._names):
            self.set_status(http.HTTPStatus.MISDIRECTED_REQUEST)
            problem = {
                "status": http.HTTPStatus.MISDIRECTED_REQUEST,
                "title": http.HTTPStatus.MISDIRECTED_REQUEST.phrase,
                "reason": "HOST_UNKNOWN",
                "detail": "Unknown Host header: FLOWHOOK_ADMIN_HOSTS lists the names of this server.",
            }
            self.finish_json(problem, content_type="application/problem+json")

    def set_default_headers(self) -> None:
        """Set the headers of every response. Source: OWASP, "HTTP Headers Cheat Sheet"."""
        self.set_header("Server", "flowhook")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")

    async def head(self) -> None:
        """Respond as to GET; Tornado omits the body."""
        await self.get()

    async def get(self) -> None:
        """Respond with 404; subclasses override this."""
        raise tornado.web.HTTPError(http.HTTPStatus.NOT_FOUND)

    def write_error(self, status_code: int, **_kwargs: Any) -> None:
        """Respond with a problem detail (RFC 9457) that reveals no internals."""
        title = http.HTTPStatus(status_code).phrase
        if status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(self.SUPPORTED_METHODS))
        self.finish_json({"status": status_code, "title": title}, content_type="application/problem+json")

    def finish_json(self, value: object, *, content_type: str = "application/json") -> None:
        """Respond with JSON."""
        self.set_header("Content-Type", content_type)
        self.finish(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")

    async def processes(self, *, metrics: bool = False) -> tuple[list[ProcessInfo], list[str]]:
        """Return all processes, and why the cluster is not ready; no processes when the router does not respond."""
        try:
            found = list(await self.client.cluster.processes(metrics=metrics))
        except FlowhookError as error:
            return [], [error.message]
        return found, health.unready_reasons(found)


class NotFoundHandler(BaseHandler):
    """Any other path: 404."""


class LivenessHandler(BaseHandler):
    """`/healthz`: this process runs."""

    async def get(self) -> None:
        """Respond with 200."""
        self.finish_json({"status": "ok", "build": flowhook.__version__})


class ReadinessHandler(BaseHandler):
    """`/readyz`: a webhook that arrives now is executed by a flow."""

    async def get(self) -> None:
        """Respond with 200, or with 503 and the reasons."""
        _, reasons = await self.processes()
        self.set_status(http.HTTPStatus.SERVICE_UNAVAILABLE if reasons else 200)
        self.finish_json({"ready": not reasons, "reasons": reasons})


class HealthHandler(BaseHandler):
    """`/health`: all processes."""

    async def get(self) -> None:
        """Respond with 200 and what is known, even when the cluster is not ready."""
        processes, reasons = await self.processes()
        shown = [health.describe_process(process) for process in processes]
        self.finish_json({"ready": not reasons, "reasons": reasons, "processes": shown})


class MetricsHandler(BaseHandler):
    """`/metrics`: all processes, for Prometheus."""

    async def get(self) -> None:
        """Respond with 200, or with 503 when the router, which collects the metrics, does not respond."""
        processes, reasons = await self.processes(metrics=True)
        if not processes and reasons:
            raise tornado.web.HTTPError(http.HTTPStatus.SERVICE_UNAVAILABLE)
        self.set_header("Content-Type", exposition.CONTENT_TYPE)
        # parsing megabytes of metrics must not block health checks
        self.finish(await asyncio.to_thread(exposition.merge_metrics, processes))


class OverviewHandler(BaseHandler):
    """`/`: a page for people."""

    async def get(self) -> None:
        """Respond with 200 and HTML in which all values are escaped."""
        processes, reasons = await self.processes()
        shown = [health.describe_process(process) for process in processes]
        self.render("overview.html", processes=shown, reasons=reasons, build=flowhook.__version__)
