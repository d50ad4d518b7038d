"""The routes of the admin process."""

from __future__ import annotations

import http
import re
from collections.abc import Iterator
from typing import Any, Final

import tornado.web
from tornado.httputil import HTTPServerRequest
from tornado.routing import PathMatches, Rule

from admin import status_handlers
from admin.api import handlers as api
from admin.api.openapi import PREFIX
from admin.console import (
    actions,
    apply,
    documentation,
    executions,
    flows,
    jobs,
    lists,
    login,
    overview,
    replay,
    secrets,
    static_files,
)
from admin.handlers import AdminContext, BaseHandler
from operations.operation import PLACEHOLDER
from operations.table import APPLY_FLOW, CHECK_FLOW, CREATE_JOB, OPERATIONS, PREVIEW_JOB, REPLAY_EXECUTION, SET_SECRET

_SEGMENT: Final = "([^/]+)"
_COMPRESSED: Final = frozenset({"text/html", "text/css", "text/javascript", "application/json"})
# paths and their handlers, beside the operations of the API and the actions of the console's forms
PAGES: Final = (
    ("/", overview.OverviewPage),
    ("/stream/overview", overview.OverviewStream),
    ("/login", login.LoginPage),
    ("/login/continue", login.ContinuePage),
    ("/logout", login.LogoutHandler),
    ("/flows", flows.FlowsPage),
    ("/stream/flows", flows.FlowStream),
    ("/flows/{flow_id}", flows.FlowDetailPage),
    ("/flows/{flow_id}/test", flows.TestEventPage),
    ("/flows/{flow_id}/test/sign", flows.SignTestEventPage),
    ("/flows/{flow_id}/revisions", flows.RevisionsPage),
    ("/apply", apply.ApplyPage),
    ("/check", apply.ApplyPage),  # anyone who opens the address of a check again
    ("/executions", executions.ExecutionsPage),
    ("/executions/stream", executions.ExecutionStream),
    ("/executions/{execution_id}", executions.ExecutionDetailPage),
    ("/executions/{execution_id}/diff", executions.DiffPage),
    ("/executions/{execution_id}/progress", executions.ExecutionProgress),
    ("/executions/{execution_id}/replay", replay.ReplayPage),
    ("/faults", executions.FaultsPage),
    ("/incidents", lists.IncidentsPage),
    ("/incidents/{incident_id}", lists.IncidentDetailPage),
    ("/jobs", lists.JobsPage),
    ("/jobs/new", jobs.NewJobPage),
    ("/jobs/{job_id}", jobs.JobDetailPage),
    ("/jobs/{job_id}/progress", jobs.JobProgress),
    ("/requests", lists.RequestsPage),
    ("/rejections", lists.RejectionsPage),
    ("/rejections/{rejection_id}", lists.RejectionDetailPage),
    ("/rejections/{rejection_id}/accept", lists.AcceptHandler),
    ("/secrets", secrets.SecretsPage),
    ("/cluster", lists.ClusterPage),
    ("/stream/cluster", lists.ClusterStream),
    ("/audit", lists.AuditLogPage),
    ("/healthz", status_handlers.LivenessHandler),
    ("/readyz", status_handlers.ReadinessHandler),
    ("/health", status_handlers.HealthHandler),
    ("/metrics", status_handlers.MetricsHandler),
    (f"{PREFIX}/openapi.json", api.DescriptionHandler),
)
# operations whose forms need more than that
FORMS: Final = (
    (APPLY_FLOW, apply.ApplyHandler),
    (SET_SECRET, secrets.SetSecretHandler),
    (REPLAY_EXECUTION, replay.ReplayHandler),
    (PREVIEW_JOB, jobs.PreviewJobHandler),
    (CREATE_JOB, jobs.CreateJobHandler),
    (CHECK_FLOW, apply.CheckHandler),
)


class NotFoundHandler(documentation.PublicPage):
    """Any other path: 404, as a page for browsers and as a problem detail for others."""

    async def show(self, *_values: str) -> None:
        raise tornado.web.HTTPError(http.HTTPStatus.NOT_FOUND)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if "text/html" in self.request.headers.get("Accept", ""):
            super().write_error(status_code, **kwargs)
        else:
            BaseHandler.write_error(self, status_code, **kwargs)


class _MethodMatches(PathMatches):
    """Matches requests by path and method: forms are sent to the path of the page that they stand on."""

    def __init__(self, path: str, methods: tuple[str, ...]) -> None:
        super().__init__(path)
        self._methods = methods

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """Return the arguments of the path; None if it is not this one, or the method is not."""
        return super().match(request) if request.method in self._methods else None


class _Compression(tornado.web.GZipContentEncoding):
    """Compresses pages, styles, scripts and JSON; neither streams, whose events must not wait, nor downloads."""

    def _compressible_type(self, ctype: str) -> bool:
        return ctype in _COMPRESSED


def application(context: AdminContext) -> tornado.web.Application:
    return tornado.web.Application(
        list(_rules(context)),
        default_handler_class=NotFoundHandler,
        default_handler_args={"context": context},
        transforms=[_Compression],
        log_function=lambda _handler: None,  # silent in normal operation; failures are logged where they happen
    )


def _rules(context: AdminContext) -> Iterator[Rule]:
    shared = {"context": context}
    for operation, notice in actions.ACTIONS:
        only = _MethodMatches(_pattern(operation.path), (operation.method,))
        yield Rule(only, actions.ActionHandler, {**shared, "operation": operation, "notice": notice})
    for operation, form in FORMS:
        yield Rule(_MethodMatches(_pattern(operation.path), ("POST",)), form, shared)
    for path, page_class in PAGES:
        yield Rule(PathMatches(_pattern(path)), page_class, shared)
    yield Rule(PathMatches(r"/docs/?"), documentation.DocumentationIndex, shared)
    yield Rule(PathMatches(r"/docs/([A-Za-z0-9./_-]+)"), documentation.DocumentationPage, shared)
    yield Rule(PathMatches(r"/static/([A-Za-z0-9./_-]+)"), static_files.StaticHandler, shared)
    methods: dict[str, tuple[str, ...]] = {}
    for operation in OPERATIONS:
        values = {**shared, "operation": operation}
        handler = api.DownloadHandler if operation.result is bytes else api.OperationHandler
        if operation.result is bytes:
            yield Rule(PathMatches(_pattern(operation.path)), handler, values)
        path = _pattern(PREFIX + operation.path)
        yield Rule(_MethodMatches(path, api.methods_of(operation)), handler, values)
        methods[path] = methods.get(path, ()) + api.methods_of(operation)
    for path, known in methods.items():
        yield Rule(PathMatches(path), api.OtherMethodHandler, {**shared, "methods": known})
    yield Rule(PathMatches(rf"{PREFIX}(?:/.*)?"), api.UnknownPathHandler, shared)


def _pattern(path: str) -> str:
    return PLACEHOLDER.sub(lambda _match: _SEGMENT, re.sub(r"[.]", r"\\.", path)) + "$"
