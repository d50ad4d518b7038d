"""Base class of the console's pages: sessions, CSRF tokens, errors as pages, forms that were not performed."""

from __future__ import annotations

import asyncio
import base64
import http
import re
import secrets
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote, urlencode

from admin.console import rendering
from admin.handlers import COOKIE, SignedInHandler
from admin.security.request_checks import is_same_origin
from admin.security.sessions import LoginRole
from flowhook.asyncio_tasks import end_tasks
from flowhook.client import AsyncClient
from flowhook.errors import FlowhookError, InvalidError, PermissionDeniedError, UnauthenticatedError, UnavailableError
from operations.execution_list import pairs_of
from operations.executions import read_beginning
from operations.operation import PLACEHOLDER, Operation, P, PageParameters, ParameterError, Parameters
from operations.table import OPERATIONS

CSRF_FIELD: Final = "csrf_token"
MENU: Final = (
    *("overview", "flows", "executions", "faults", "incidents", "jobs", "requests", "rejections", "secrets", "cluster"),
    *("audit", "docs"),
)
# entries of the menu, by what the paths of their pages begin with
SECTIONS: Final = {**{name: name for name in MENU}, "": "overview", "apply": "flows", "check": "flows"}
# time that work may take before the router is asked for a sign of life; then after each further such time
PATIENCE_SECONDS: Final = 2.0
# time within which a router that is only busy answers a call that reads nothing from storage
SILENCE_SECONDS: Final = 3.0


def with_newlines(fields: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the fields of a form with the ends of lines that their texts had before.

    Browsers end lines with CRLF in forms. Source: HTML, "multi-line text".
    """
    return {name: [value.replace("\r\n", "\n") for value in values] for name, values in fields.items()}


def read_live(query: dict[str, list[str]]) -> bool:
    """Remove `live` from the parameters of a page's URL, and return whether the page shall update itself."""
    value = query.pop("live", ["on"])[0]
    if value not in ("on", "off"):
        raise InvalidError("live: write on or off", reason="PARAMETER_INVALID")
    return value == "on"


def read_rows(operation: Operation[P], query: Mapping[str, Sequence[str]], rows: int) -> P:
    """Return the conditions that the parameters of the URL of a list name, for a page with so many rows."""
    if (query.get("page_size") or [""])[0]:
        raise InvalidError(f"a page has {rows} rows: write no page_size", reason="PARAMETER_INVALID")
    return operation.read_query({}, {**query, "page_size": [str(rows)]})


def query_of(parameters: Parameters, **others: str) -> str:
    """Return the conditions of a list as the query of its URL, from its beginning, and others that are not empty."""
    of_path = {name for name, field in type(parameters).model_fields.items() if field.is_required()}
    left_out = {*PageParameters.model_fields, *of_path}
    conditions = parameters.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
    return urlencode([pair for pair in pairs_of({**conditions, **others}) if pair[1]])


@dataclass(frozen=True, slots=True)
class FilterForm:
    """The form above a list, which is shown without the list if one of its fields is not acceptable."""

    template: str  # has the form; it gets its parameters as `filters`
    heading: str  # title of the page
    operation: Operation[Any]  # reads the fields
    values: Mapping[str, object] = field(default_factory=dict)  # further values for the template


class ConsolePage(SignedInHandler):
    """Base class of pages."""

    # whether a form that was not performed is shown again, to be sent by its author: once it is corrected, or once its
    # author has logged in
    repeats_form = True
    # the form whose fields are in the URL, on a page without other forms that depend on them
    filter_form: FilterForm | None = None
    is_part = False  # whether it is a part of a page, which asks for it and follows no redirect to the login
    error_fields: Mapping[str, str] = MappingProxyType({})  # fields that errors are about, by the reason of the error
    # seconds after which a page that is not there yet finds out whether the router hangs; None: never
    patience: float | None = PATIENCE_SECONDS

    @property
    def section(self) -> str:
        first = self.request.path.removeprefix("/stream").removeprefix("/").partition("/")[0]
        return SECTIONS.get(first, "")

    async def get(self, *values: str) -> None:
        """Show the page, or that the router hangs, as soon as that is known."""
        await self._respond(self._show_unless_router_hangs, values)

    async def _show_unless_router_hangs(self, *values: str) -> None:
        if self.patience is None:
            await self.show(*values)
        else:
            await until_router_hangs(self.show(*values), self.context.watch, self.patience)

    def finish_page(self, template: str, *, error: FlowhookError | None = None, **values: Any) -> None:
        """Respond with a page; `error` is about fields of its form, which say so, or about all of it."""
        session = self.session
        is_visit = self.request.method == "GET" and not self.is_update
        self.set_header("Content-Type", "text/html; charset=UTF-8")
        self.finish(
            rendering.render(
                template,
                section=self.section,
                role=None if session is None else session.role,
                operator=session is not None and session.role is LoginRole.OPERATOR,
                notice="" if session is None or not is_visit else session.take_notice(),
                csrf_token="" if session is None else session.csrf_token(),
                error=error,
                **{"errors": self.invalid_fields(error), **values},
            )
        )

    def checked_form(self) -> dict[str, list[str]]:
        fields = self.form()
        given = fields.pop(CSRF_FIELD, [""])
        if self.session is None or not self.session.has_csrf_token(given[0]):
            raise PermissionDeniedError(
                "the form is not one of your session: open the page again", reason="CSRF_TOKEN_INVALID"
            )
        return with_newlines(fields)

    def finish_error(self, error: FlowhookError) -> None:
        """Send anyone who is not logged in to the login; show a page about any other error.

        A page that updates itself, or a part of one, gets a status that it does not follow.
        """
        is_stranger = isinstance(error, UnauthenticatedError)
        if is_stranger and (self.is_update or self.is_part):
            self.set_status(http.HTTPStatus.UNAUTHORIZED)
            self.finish()
            return
        if is_stranger and self._is_own_form():
            self._finish_unsent_login()
            return
        if error.reason == "CSRF_TOKEN_INVALID" and self.repeats_form and self._is_own_form():
            self._finish_unsent_form(error, {})
            return
        if (fields := self.invalid_fields(error)) and self._finish_form_again(error, fields):
            return
        if is_stranger:
            self.end_session()  # the login says so, to anyone who has its cookie
            read = self.request.method != "POST" and self.request.uri not in ("/", None)
            login = f"/login?next={quote(self.request.uri or '', safe='')}" if read else "/login"
            if self.get_cookie(COOKIE) is None and self._is_foreign_link():
                self.finish_page("reload.html", login=login)
            else:
                self.see_other(login)
            return
        self.set_status_of(error)
        self._finish_error_page(error.message, error.reason)

    async def first_bytes(self, execution_id: str, most: int) -> bytes:
        """Return the body of a request, cut after more than `most` bytes."""
        async with self.router() as client:
            return await read_beginning(client, execution_id, most)

    def see_other(self, path: str) -> None:
        self.redirect(path, status=http.HTTPStatus.SEE_OTHER)

    def invalid_fields(self, error: FlowhookError | None) -> Mapping[str, str]:
        """Return what an error says is wrong with the fields of a form, by name; empty: it is about no field."""
        if isinstance(error, ParameterError):
            return error.fields
        name = None if error is None else self.error_fields.get(error.reason)
        return {} if error is None or name is None else {name: error.message}

    def form_error(self, error: FlowhookError) -> FlowhookError:
        """Return an error about a field, whose form is shown again with its status."""
        if not self.invalid_fields(error):
            raise error
        self.set_status_of(error)
        return error

    def _finish_form_again(self, error: FlowhookError, fields: Mapping[str, str]) -> bool:
        """Respond with the form that has invalid fields, as it was filled in; or return that there is none."""
        if self.request.method == "POST":
            is_repeated = self.repeats_form and summary(self.request.path) != ""
            if is_repeated:
                self._finish_unsent_form(error, fields)
            return is_repeated
        if (form := self.filter_form) is None:
            return False
        self.set_status_of(error)
        filters = form.operation.draft({}, self.query(), fields)
        self.finish_page("invalid_form.html", form=form, error=error, filters=filters, **form.values)
        return True

    def _finish_unsent_form(self, error: FlowhookError, errors: Mapping[str, str]) -> None:
        """Respond with the form, which was not performed, and has to be sent again."""
        fields = self.form()
        fields.pop(CSRF_FIELD, None)
        self.set_status_of(error)
        unsent = unsent_form(self.request.path, with_newlines(fields), errors)
        self.finish_page("unsent_form.html", unsent=unsent, error=error, errors=errors)

    def is_unsent_form(self, error: FlowhookError) -> bool:
        """Whether a page of this process sent a form, not too long a one, whose session has ended meanwhile."""
        is_own = isinstance(error, UnauthenticatedError) and self.repeats_form and self._is_own_form()
        return is_own and self.content_length is not None and self.content_length <= MAX_UNSENT

    def _is_own_form(self) -> bool:
        """Whether a browser says that a page of this process sent the form, to a path that forms are sent to."""
        given = self.request.headers.get
        return (
            self.request.method == "POST"
            and given("Origin") is not None
            and is_same_origin(given("Host"), given("Origin"), given("Sec-Fetch-Site"))
            and summary(self.request.path) != ""
        )

    def _finish_unsent_login(self) -> None:
        """Respond with a login that contains the form, which nothing has read yet."""
        self.end_session()
        self.clear_cookie(COOKIE)
        self.session = None
        self.set_status(http.HTTPStatus.UNAUTHORIZED)
        self.finish_page(
            "unsent_login.html",
            message="",
            path=self.request.path,
            summary=summary(self.request.path),
            form=carry(self.body) if self.repeats_form and len(self.body) <= MAX_UNSENT else "",
            login_id=secrets.token_hex(16),
            repeats=self.repeats_form,
            back=f"/{self.section}",
        )

    def _is_foreign_link(self) -> bool:
        """Whether a link of another site led here: browsers then omit the cookie, because it is `SameSite=Strict`.

        They send it to the login, if a page of this process leads there, and the login leads back.
        """
        headers = self.request.headers
        return headers.get("Sec-Fetch-Site") == "cross-site" and headers.get("Sec-Fetch-Mode") == "navigate"

    def _finish_error_page(self, message: str, reason: str = "") -> None:
        status = http.HTTPStatus(self.get_status())
        self.finish_page("error.html", status=status.value, title=status.phrase, message=message, reason=reason)

    def write_error(self, status_code: int, **_kwargs: Any) -> None:
        self.set_error_headers(status_code)
        self._finish_error_page("There is no such page." if status_code == http.HTTPStatus.NOT_FOUND else "")


class ListPage(ConsolePage):
    """Base class of pages that show a list, the newest first, with conditions in the URL."""

    operation: Operation[Any]  # reads the conditions, and a page of the list
    template: str  # gets the conditions as `filters`, and the queries of the newest and of older items
    values: Mapping[str, Any] = MappingProxyType({})  # further values for the template

    async def show(self, *_values: str) -> None:
        parameters = self.operation.read_query({}, self.query())
        page = await self.perform(self.operation, parameters)
        self.finish_page(
            self.template,
            page=page,
            filters=parameters,
            first=not parameters.page_token,
            newest=query_of(parameters),
            older=query_of(parameters, page_token=page.next_page_token),
            **self.values,
        )


async def until_router_hangs(
    work: Coroutine[Any, Any, None], client: AsyncClient, patience: float = PATIENCE_SECONDS
) -> None:
    """Await work that calls the router, and cancel it once the router gives no sign of life."""
    working = asyncio.create_task(work, name="show a page")
    try:
        while not (await asyncio.wait({working}, timeout=patience))[0]:
            asking = asyncio.create_task(_ask(client), name="ask the router for a sign of life")
            try:
                await asyncio.wait({working, asking}, return_when=asyncio.FIRST_COMPLETED)
                if asking.done():
                    asking.result()
            finally:
                await end_tasks([asking])
        working.result()
    finally:
        await end_tasks([working])


async def _ask(client: AsyncClient) -> None:
    try:
        await client.cluster.processes(metrics=False)
    except UnavailableError:
        raise
    except FlowhookError:
        return  # it refuses, so it answers


# bytes of a form that a page contains until its author has logged in; it is parsed after that
MAX_UNSENT: Final = 128 * 1024
MAX_CARRIED: Final = MAX_UNSENT * 4 // 3 + 8192  # bytes of a login that carries a form
# escaped bytes (`%XX`) in a login that carries a form: decoding them costs more than all the rest
MAX_ESCAPES: Final = 1024
LONG: Final = 100  # characters of a value that a page shows in a line
# paths that forms are sent to, and what each does. Some only read: their fields may be too long for a URL.
_FORMS: Final = tuple(
    (re.compile(PLACEHOLDER.sub("[^/]+", each.path)), each.summary)
    for each in sorted(OPERATIONS, key=lambda each: not each.writes)
)


@dataclass(frozen=True, slots=True)
class UnsentForm:
    """A form that has to be sent again."""

    path: str  # the path that it was sent to
    summary: str  # what that does
    fields: tuple[tuple[str, str], ...]  # names and values, in order, without a CSRF token
    invalid: Collection[str] = ()  # names of fields that have to be corrected

    @property
    def editable(self) -> list[tuple[str, str]]:
        """The fields that can be edited: invalid ones, and those that take more than a line."""
        return [(name, value) for name, value in self.fields if name in self.invalid or _is_long(value)]

    @property
    def fixed(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.fields if name not in self.invalid and not _is_long(value)]


def unsent_form(path: str, fields: Mapping[str, Sequence[str]], invalid: Collection[str] = ()) -> UnsentForm:
    pairs = ((name, value) for name, values in fields.items() for value in values)
    return UnsentForm(path, summary(path), tuple(pairs), invalid)


def summary(path: str) -> str:
    return next((text for pattern, text in _FORMS if pattern.fullmatch(path)), "")


def carry(body: bytes) -> str:
    """Return the body of a form as the value of a field, none of whose characters browsers escape."""
    return base64.urlsafe_b64encode(body).decode()


def carried(value: str) -> bytes:
    """Return the body of a form that a field carries. Raises `InvalidError`: it carries none (`FORM_INVALID`)."""
    try:
        return base64.b64decode(value.encode("ascii"), b"-_", validate=True)
    except ValueError:
        raise InvalidError("no form of this console", reason="FORM_INVALID") from None


def _is_long(value: str) -> bool:
    return len(value) > LONG or "\n" in value
