"""`/login` and `/logout`.

The form has one field, `token`: a bearer token of the router with the scope `view` or `admin`. The router is asked what
the token may do, and its answer is the role of the session.
"""

from __future__ import annotations

import http
from typing import Any

from admin.base_handler import status_of
from admin.console.page import Page
from admin.security.router_clients import find_role
from admin.security.sessions import MAX_AGE_SECONDS
from admin.signed_in_handler import COOKIE, MAX_TOKEN
from flowhook.errors import (
    ExhaustedError,
    FlowhookError,
    InvalidError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)


class LoginPage(Page):
    """`/login`."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST")
    max_body = 4096

    def authenticate(self) -> None:
        """Ask for nothing: nobody has logged in yet. A form of another origin is refused, as those of sessions are."""
        if self.request.method == "POST":
            self.check_origin()

    async def show(self, *_values: str) -> None:
        """Respond with the form; redirect whoever is logged in to the page that was asked for."""
        cookie = self.get_cookie(COOKIE, "") or ""
        if self.context.sessions.find(cookie, self.context.clock()) is None:
            self._finish("Your session has ended: log in again." if cookie else "")
        else:
            self.redirect(self._target(), status=http.HTTPStatus.SEE_OTHER)

    async def submit(self, *_values: str) -> None:
        """Begin a session and redirect to the page that was asked for; or show the form again, with the reason."""
        try:
            self.token = self._read_token()
            async with self.router() as client:
                role = await find_role(client)
        except FlowhookError as error:
            self.set_status(status_of(error))
            if isinstance(error, ExhaustedError | UnavailableError):
                self.set_header("Retry-After", str(error.retry_after))
            self._finish(_explain(error))
            return
        self.context.sessions.end(self.get_cookie(COOKIE, "") or "")  # of whoever used this browser before
        session_id = self.context.sessions.begin(self.token, role, self.context.clock())
        self.set_cookie(
            COOKIE,
            session_id,
            path="/",
            max_age=int(MAX_AGE_SECONDS),
            httponly=True,
            samesite="Strict",
            secure=self._is_secure(),
        )
        self.redirect(self._target(), status=http.HTTPStatus.SEE_OTHER)

    def _finish(self, message: str) -> None:
        self.finish_page("login.html", message=message, target=self._target())

    def _read_token(self) -> str:
        values = self.form().get("token", [""])
        token = values[0].strip()
        if not token:
            raise InvalidError("Write a token.")
        if len(values) > 1 or len(token) > MAX_TOKEN or not token.isascii() or not token.isprintable():
            raise UnauthenticatedError("")
        return token

    def _target(self) -> str:
        """Return the path to go to; only one of this process, so that no link to the login leads elsewhere."""
        target = self.get_query_argument("next", "/flows")
        safe = target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
        return target if safe else "/flows"

    def _is_secure(self) -> bool:
        """Whether the browser connected over TLS, to this process or to a proxy.

        Headers are believed: a client that lies gets a cookie that it does not send back, and nobody else is affected.
        """
        headers = self.request.headers
        return (
            self.request.protocol == "https"
            or headers.get("X-Forwarded-Proto", "").lower() == "https"
            or headers.get("Origin", "").startswith("https://")
        )


class LogoutHandler(Page):
    """`/logout`."""

    SUPPORTED_METHODS = ("POST",)
    operators_only = False

    async def submit(self, *_values: str) -> None:
        """End the session."""
        self.checked_form()
        self.context.sessions.end(self.get_cookie(COOKIE, "") or "")
        self.clear_cookie(COOKIE)
        self.redirect("/login", status=http.HTTPStatus.SEE_OTHER)


def _explain(error: FlowhookError) -> Any:
    match error:
        case UnauthenticatedError():
            return "The router does not know this token."
        case PermissionDeniedError():
            return "This token has neither the scope view nor the scope admin."
        case UnavailableError():
            return f"The router does not answer: {error.message}"
        case _:
            return error.message
