"""HTTP handlers of the JSON API. Credentials are a bearer token, or the session of the console."""

from __future__ import annotations

import http
import re
from contextlib import aclosing
from typing import Any, Final

import orjson
import tornado.web

from admin.api import openapi
from admin.handlers import MAX_TOKEN, AdminContext, SignedInHandler
from flowhook.errors import FlowhookError, InvalidError, PermissionDeniedError, UnauthenticatedError
from operations.operation import Download, Operation

CSRF_HEADER: Final = "X-CSRF-Token"
MAX_FILE_NAME: Final = 100  # characters of the name of a file
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]")  # characters that names of files don't get


class ApiHandler(SignedInHandler):
    """Base class of the API's handlers."""

    def authenticate(self) -> None:
        """Find the bearer token, else the session, as which writing needs its CSRF token in a header."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme:
            if scheme.lower() != "bearer" or not token.strip():
                raise UnauthenticatedError("send `Authorization: Bearer TOKEN`", reason="TOKEN_MISSING")
            self.token = token.strip()
            if len(self.token) > MAX_TOKEN or not self.token.isascii() or not self.token.isprintable():
                raise UnauthenticatedError("the token is unknown, revoked or expired")
            return
        super().authenticate()
        if self.request.method == "POST" and self.session is not None:
            given = self.request.headers.get(CSRF_HEADER, "")
            if not self.session.has_csrf_token(given):
                raise PermissionDeniedError(f"send the session's token in {CSRF_HEADER}", reason="CSRF_TOKEN_INVALID")

    def finish_error(self, error: FlowhookError) -> None:
        if isinstance(error, UnauthenticatedError):
            self.set_header("WWW-Authenticate", 'Bearer realm="flowhook"')
        self.finish_problem(error)


def safe_file_name(name: str) -> str:
    """Return a file name without characters that mean anything to a shell, a header or a path; never a hidden file."""
    safe = _UNSAFE.sub("_", name.encode("ascii", "replace").decode().replace("?", "_")).lstrip(".")
    return safe[-MAX_FILE_NAME:].lstrip(".") or "attachment"


def methods_of(operation: Operation[Any]) -> tuple[str, ...]:
    return ("POST",) if operation.writes else ("GET", "HEAD")


class OperationHandler(ApiHandler):
    """Performs one operation."""

    def initialize(self, context: AdminContext, operation: Operation[Any]) -> None:  # type: ignore[override]
        super().initialize(context)
        self._operation = operation
        self.SUPPORTED_METHODS = methods_of(operation)

    async def show(self, *values: str) -> None:
        self.finish_json(await self.run(self._operation, self._path(values)))

    async def submit(self, *values: str) -> None:
        await self.recognize()  # before a stranger's bytes are parsed
        parameters = self._operation.read(self._path(values), self._json())
        self.finish_json(await self.perform(self._operation, parameters))

    def _path(self, values: tuple[str, ...]) -> dict[str, str]:
        return dict(zip(self._operation.path_parameters, values, strict=True))

    def _json(self) -> dict[str, Any]:
        if not self.body:
            return {}
        if self.request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            raise InvalidError("send JSON: Content-Type: application/json", reason="BODY_INVALID")
        try:
            value = orjson.loads(self.body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise InvalidError("the body must be a JSON object", reason="BODY_INVALID")
        return value


class DownloadHandler(OperationHandler):
    """Streams the result of an operation that yields bytes, whatever they are."""

    async def show(self, *values: str) -> None:
        """Respond with the bytes; browsers store them and never show them."""
        path = self._path(values)
        parameters = self._operation.read_query(path, self.query())
        name = self._operation.download.format(**path)
        async with self.router() as client:
            with self.context.downloads.acquire(self.principal):
                result = await self._operation.perform(client, parameters, self.context.tools)
                name, chunks = (result.name, result.chunks) if isinstance(result, Download) else (name, result)
                self.set_header("Content-Type", "application/octet-stream")
                self.set_header("Content-Disposition", f'attachment; filename="{safe_file_name(name)}"')
                async with aclosing(chunks):
                    async for chunk in chunks:
                        self.write(chunk)
                        await self.flush_in_time()

    def finish_error(self, error: FlowhookError) -> None:
        """Respond with a problem detail; close the connection before the end if the body has begun."""
        if self._headers_written:
            self.disconnect()  # `finish` would end it as if it were whole
            return
        self.clear_header("Content-Disposition")
        super().finish_error(error)


class DescriptionHandler(ApiHandler):
    """`/api/openapi.json`: the description of the API."""

    async def show(self, *_values: str) -> None:
        self.finish_json(openapi.description())


class OtherMethodHandler(ApiHandler):
    """The path of operations with another method than theirs: 405."""

    def initialize(self, context: AdminContext, methods: tuple[str, ...]) -> None:  # type: ignore[override]
        super().initialize(context)
        self.SUPPORTED_METHODS = methods


class UnknownPathHandler(ApiHandler):
    """Any other path below `/api`: 404."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST")

    async def show(self, *_values: str) -> None:
        raise tornado.web.HTTPError(http.HTTPStatus.NOT_FOUND)

    submit = show
