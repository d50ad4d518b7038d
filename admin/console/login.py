"""`/login` and `/logout`.

The form has one field, `token`: a bearer token of the router with the scope `view` or `admin`. The router is asked what
the token may do, and its answer is the role of the session. A second form, which a script sends, has the code of the
link that `flowhook up` prints (`admin.security.sessions`).
"""

from __future__ import annotations

import http
import secrets

from admin.console.page import (
    CSRF_FIELD,
    MAX_CARRIED,
    MAX_ESCAPES,
    ConsolePage,
    carried,
    summary,
    unsent_form,
    with_newlines,
)
from admin.handlers import COOKIE, MAX_TOKEN, parse_fields
from admin.security.router_clients import find_role
from admin.security.sessions import MAX_AGE_SECONDS, LoginRole
from flowhook.errors import FlowhookError, InvalidError, PermissionDeniedError, UnauthenticatedError, UnavailableError


class LoginPage(ConsolePage):
    """`/login`."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST")
    max_body = 4096
    repeats_form = False

    def authenticate(self) -> None:
        """Ask for nothing: nobody has logged in yet. A form of another origin is refused, as those of sessions are."""
        if self.request.method == "POST":
            self.check_origin()

    async def show(self, *_values: str) -> None:
        if self.find_session() is None:
            self.finish_form("Your session has ended: log in again." if self.get_cookie(COOKIE) else "")
        else:
            self.see_other(self._target())

    async def submit(self, *_values: str) -> None:
        """Begin a session and redirect to the page that was asked for; or show the form again, with the reason."""
        try:
            self.token = self._read_credential()
            async with self.router() as client:
                role = await find_role(client)
        except FlowhookError as error:
            self.set_status_of(error)
            self.finish_form(_explain(error))
            return
        self.end_session()  # of the previous user of this browser
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
        self.session = self.context.sessions.find(session_id, self.context.clock())
        self.finish_login()

    def finish_login(self) -> None:
        self.see_other(self._target())

    def finish_form(self, message: str) -> None:
        self.finish_page("login.html", message=message, target=self._target())

    def _read_credential(self) -> str:
        """Return the token of the form, or the one that the code of a link stands for."""
        fields = self.form()
        if codes := fields.get("code"):
            return self.context.login_link.redeem(codes[0], self._peer(), self.context.clock())
        values = fields.get("token", [""])
        token = values[0].strip()
        if not token:
            raise InvalidError("Write a token.")
        if len(values) > 1 or len(token) > MAX_TOKEN or not token.isascii() or not token.isprintable():
            raise UnauthenticatedError("")
        return token

    def _peer(self) -> str:
        """Return the address at the other end of the connection; empty if that is a proxy, which speaks for others."""
        if any(name in self.request.headers for name in ("Forwarded", "X-Forwarded-For", "Via")):
            return ""
        stream = self.connection.stream
        return "" if stream.closed() else stream.socket.getpeername()[0]

    def _target(self) -> str:
        """Return the path to go to; only one of this process, so that no link to the login leads elsewhere."""
        target = self.get_query_argument("next", "/")
        safe = target.startswith("/") and not target.startswith("//") and "\\" not in target and target.isprintable()
        return target if safe else "/"

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


class ContinuePage(LoginPage):
    """`/login/continue`: a login that carries a form whose session had ended (`ConsolePage.finish_error`).

    Nothing is performed: the form is shown with a CSRF token of the new session, to be sent by its author.
    """

    max_body = MAX_CARRIED

    async def show(self, *_values: str) -> None:
        """Redirect to the login: anyone who opens this address again carries no form."""
        self.see_other("/login")

    async def submit(self, *_values: str) -> None:
        """Begin a session and show the carried form; or show the login again, with the reason."""
        if self.body.count(b"%") > MAX_ESCAPES:
            raise InvalidError("no login of this console", reason="FORM_INVALID")
        fields = self.form()
        self._path, self._form = (fields.get(name, [""])[0] for name in ("path", "form"))
        if not summary(self._path):
            raise InvalidError("no form is sent to this path", reason="FORM_INVALID")
        if self.body not in self.context.sent_logins:
            await super().submit()
            return
        self.session = self.find_session()
        if self.session is None:
            self.set_status(http.HTTPStatus.UNAUTHORIZED)
            self.finish_form("This login was sent before.")
        else:
            self.finish_login()

    def finish_login(self) -> None:
        self.context.sent_logins.add(self.body)
        if self.session is None or self.session.role is not LoginRole.OPERATOR:
            self.finish_form("This token may only view: log in with one that has the scope admin.")
            return
        fields = parse_fields(carried(self._form), "FORM_INVALID")
        fields.pop(CSRF_FIELD, None)
        self.finish_page("unsent_form.html", unsent=unsent_form(self._path, with_newlines(fields)))

    def finish_form(self, message: str) -> None:
        self.finish_page(
            "unsent_login.html",
            message=message,
            path=self._path,
            summary=summary(self._path),
            form=self._form,
            login_id=secrets.token_hex(16),
            repeats=True,
            back="/",
        )


class LogoutHandler(ConsolePage):
    """`/logout`."""

    SUPPORTED_METHODS = ("POST",)
    operators_only = False
    repeats_form = False

    async def submit(self, *_values: str) -> None:
        self.checked_form()
        self.end_session()
        self.clear_cookie(COOKIE)
        self.see_other("/login")


def _explain(error: FlowhookError) -> str:
    match error:
        case UnauthenticatedError(reason="LOGIN_LINK_INVALID"):
            return "This link was used before, has expired, or is for another machine: log in with a token."
        case UnauthenticatedError():
            return "The router does not know this token."
        case PermissionDeniedError():
            return "This token has neither the scope view nor the scope admin."
        case UnavailableError():
            return f"The router does not answer: {error.message}"
        case _:
            return error.message
