"""`call: http`, the DSL's own function.

Source: dsl-reference.md, "HTTP Call", "HTTP Response", "Endpoint".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Literal, Self
from urllib.parse import urlencode

import orjson
from pydantic import Field, model_validator
from yarl import URL

from flowhook import limits
from flowhook.document.models.calls import FetchedEndpoint, HttpArguments, MultipartField
from flowhook.payloads.content_type import is_json
from runner.components.base import Context, as_text, component
from runner.interpreter.errors import Kind, fault
from runner.interpreter.json_codec import encode
from runner.outbound.http_response import Body, HttpResponse, refusal
from runner.outbound.policies import Policy
from runner.outbound.request_bodies import AttachmentBody, FormBody, FormPart, media_type

Scalar = str | int | float | bool | None
Output = Literal["content", "raw", "response"]
_FORM = "application/x-www-form-urlencoded"
_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([A-Za-z0-9._-]+)", re.IGNORECASE)
# charsets of text besides UTF-8; not all that Python has, because some of them are slow
_CODECS: Final = {
    "iso-8859-1": "iso-8859-1",
    "iso-8859-15": "iso-8859-15",
    "utf-16": "utf-16",
    "windows-1252": "cp1252",
}
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")


class EvaluatedEndpoint(FetchedEndpoint):
    """`endpoint`, spelled out."""

    uri: str
    authentication: Policy | None = None  # type: ignore[assignment] # the interpreter has replaced `use`


class FormField(MultipartField):
    """One of `multipart`: a value, or an attachment."""

    name: str = Field(min_length=1)

    @model_validator(mode="after")
    def _is_either(self) -> Self:
        if ("value" in self.model_fields_set) == (self.attachment is not None):
            raise ValueError("set either value or attachment")
        return self


class EvaluatedHttpArguments(HttpArguments):
    """Evaluated arguments of a `call: http`."""

    method: str = Field(pattern=r"^[A-Za-z]+$")
    endpoint: str | EvaluatedEndpoint
    headers: dict[str, Scalar] = Field(default_factory=dict)
    query: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict)
    multipart: tuple[FormField, ...] | None = Field(default=None, min_length=1, max_length=limits.MAX_PARTS)

    @model_validator(mode="after")
    def _has_one_body(self) -> Self:
        if sum(each is not None for each in (self.body, self.attachment, self.multipart)) > 1:
            raise ValueError("set only one of body, attachment and multipart")
        return self


@component("http")
async def call(arguments: EvaluatedHttpArguments, context: Context) -> Any:
    """Make an HTTP request; a status outside 200 to 299, with `redirect` outside 200 to 399, is an error."""
    endpoint = arguments.endpoint
    if isinstance(endpoint, str):
        endpoint = EvaluatedEndpoint(uri=endpoint)
    headers = {name: as_text(value) for name, value in arguments.headers.items() if value is not None}
    names = {name.lower(): name for name in headers}
    body, content_type = _request_body(arguments, headers.get(names.get("content-type", ""), ""), context)
    if content_type and "content-type" not in names:
        headers["Content-Type"] = content_type

    method = arguments.method.upper()
    response = await send(
        method,
        endpoint.uri,
        context,
        headers=headers,
        query={name: _values(value) for name, value in arguments.query.items() if value is not None},
        body=body,
        authentication=endpoint.authentication,
        redirect=arguments.redirect,
    )
    return output_of(response, method, arguments.output)


async def send(
    method: str,
    url: str | URL,
    context: Context,
    *,
    headers: Mapping[str, str],
    query: Mapping[str, str | list[str]] | None = None,
    body: Body = None,
    authentication: Policy | None = None,
    redirect: bool = False,
) -> HttpResponse:
    """Send a request; a status from 300 on is an error; with `redirect`, which follows redirects, one from 400 on."""
    response = await context.http.request(
        method,
        url,
        headers=headers,
        query=query,
        body=body,
        follow_redirects=redirect,
        authentication=authentication,
    )
    limit = HTTPStatus.BAD_REQUEST if redirect else HTTPStatus.MULTIPLE_CHOICES
    if not HTTPStatus.OK <= response.status < limit:
        raise refusal(response, method)
    return response


def output_of(response: HttpResponse, method: str, output: Output) -> Any:
    """Return the part of a response that `output` selects."""
    match output:
        case "raw":
            return base64.b64encode(response.body).decode()
        case "content":
            return content_of(response)
        case "response":
            return {
                "request": {"method": method, "uri": response.url, "headers": dict(response.sent)},
                "statusCode": response.status,
                "headers": {name.lower(): ", ".join(response.headers.getall(name)) for name in response.headers},
                "content": content_of(response),
            }


def content_of(response: HttpResponse) -> Any:
    """Return the body: parsed if it is JSON, as a string if it is text, else in base64."""
    if not response.body:
        return None
    kind = response.headers.get("Content-Type", "")
    if is_json(kind):
        try:
            return orjson.loads(response.body)
        except orjson.JSONDecodeError:
            raise fault(Kind.COMMUNICATION, f"{response.url} answered with invalid JSON") from None
    media_type = kind.partition(";")[0].strip().lower()
    if media_type.startswith("text/") or media_type.endswith(("/xml", "+xml")) or media_type == _FORM:
        charset = _CHARSET.search(kind)
        try:
            # for an unknown charset UTF-8, which usually fails: the body then stays in base64
            return response.body.decode(_CODECS.get(charset[1].lower(), "utf-8") if charset else "utf-8")
        except UnicodeDecodeError:
            pass
    return base64.b64encode(response.body).decode()


def _request_body(arguments: EvaluatedHttpArguments, content_type: str, context: Context) -> tuple[Body, str]:
    """Return the body, and its content type if the author sets none."""
    if arguments.attachment is not None:
        attachment = context.attachments.find(arguments.attachment)
        return AttachmentBody(attachment), media_type(attachment.type)
    if arguments.multipart is not None:
        if content_type:
            detail = "the HTTP client sets the Content-Type of a multipart body, with its boundary; remove the header"
            raise fault(Kind.CONFIGURATION, detail)
        return FormBody([_form_field(field, context) for field in arguments.multipart]), ""
    return _body(arguments.body, content_type)


def _form_field(field: FormField, context: Context) -> FormPart:
    for text in (field.name, field.filename, field.type):
        if text and _CONTROLS.search(text):
            raise fault(Kind.CONFIGURATION, "a name or type of a form part contains a control character")
    if field.attachment is None:
        return FormPart(field.name, as_text(field.value).encode(), field.filename, field.type or "")
    attachment = context.attachments.find(field.attachment)
    filename = attachment.name if field.filename is None else field.filename
    return FormPart(field.name, attachment, filename, field.type or media_type(attachment.type))


def _body(body: Any, content_type: str) -> tuple[bytes | None, str]:
    """Return the body as bytes, and its content type if the author sets none."""
    if body is None:
        return None, ""
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    if isinstance(body, dict) and content_type.partition(";")[0].strip().lower() == _FORM:
        return urlencode({name: _values(value) for name, value in body.items()}, doseq=True).encode(), _FORM
    return encode(body), "application/json"


def _values(value: Any) -> str | list[str]:
    return [as_text(item) for item in value] if isinstance(value, list) else as_text(value)
