"""Models of the arguments of calls, as authors write them: of the DSL's functions, and of built-in components.

They define the keys, and validate the values that are not expressions when a flow is applied. Runners validate the
evaluated arguments by subclasses, which narrow the types of values and add no key.

Source: dsl-reference.md, "HTTP Call", "gRPC Call", "OpenAPI Call", "External Resource", "Endpoint", "URI Template".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, PlainValidator, StrictBool, StrictInt, Tag

from flowhook.document.diagnostics.problems import Code, Path, validation_error
from flowhook.document.models import base
from flowhook.document.models.authentication import ReferenceableAuthenticationPolicy
from flowhook.document.models.base import Duration, Model, UriTemplate, accept, exactly_one
from flowhook.document.models.webhook import RESERVED_HEADERS
from flowhook.expressions.syntax import is_expression
from flowhook.limits import MAX_PARTS
from flowhook.providers.scheme import TOKEN

_METHOD: Final = re.compile(r"[A-Za-z]{1,32}")

_method: Final = accept(
    lambda value: is_expression(value) or bool(_METHOD.fullmatch(value)),
    Code.VALUE_FORMAT,
    "expected an HTTP method such as post",
)


def _scalars(value: object, listed: str = "") -> object:
    """Validate a mapping of scalars; `listed`: a list of them will do, as it says.

    The DSL requires strings; numbers and booleans are unambiguous, so accept them.
    """
    if is_expression(value):
        return value
    if not isinstance(value, dict):
        raise base.neither_mapping_nor_expression(value)
    for name, item in value.items():
        for each in item if listed and isinstance(item, list) else [item]:
            if each is None or isinstance(each, dict | list):
                raise validation_error(Code.VALUE_TYPE, f"expected a string for {name}{listed}")
    return value


def _query(value: object) -> object:
    return _scalars(value, ", or a list of strings")


def _fields(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if not TOKEN.fullmatch(name):
            raise validation_error(Code.HEADER_INVALID, f"{name!r} is not a valid header name")
        if name.lower() in RESERVED_HEADERS:
            raise validation_error(Code.HEADER_INVALID, f"{name} is set by the HTTP client: remove it")
    return value


Scalars = Annotated[dict[str, Any] | str, PlainValidator(_scalars), base.TEXTS]
"""A mapping of strings, numbers and booleans, some of them expressions; or an expression that yields one."""


class Endpoint(Model):
    """An endpoint spelled out."""

    uri: UriTemplate
    authentication: ReferenceableAuthenticationPolicy | None = None


def endpoint_tag(value: object) -> str:
    return "<configuration>" if isinstance(value, dict) else "<uri>"


AnyEndpoint = Annotated[
    Annotated[Endpoint, Tag("<configuration>")] | Annotated[UriTemplate, Tag("<uri>")], Discriminator(endpoint_tag)
]
"""An endpoint, or its URI."""


class MultipartField(Model):
    """A part of a form: a value, or an attachment. Not part of the DSL."""

    name: str
    value: Any = None
    attachment: str | None = None
    """Handle of the attachment, usually an expression."""
    filename: str | None = None
    """Default: that of the attachment; a value without one is a field."""
    type: str | None = None
    """Default: that of the attachment."""

    _is_either = exactly_one("value", "attachment", cause="expected one of value and attachment", may_be_null=True)


_expression: Final = accept(is_expression, Code.VALUE_TYPE, "expected a list of fields, or an expression ${ … }")

Fields = base.Either[
    Annotated[tuple[MultipartField, ...], Field(min_length=1, max_length=MAX_PARTS)],
    Annotated[str, AfterValidator(_expression)],
]


class HttpArguments(Model):
    """`with` of `call: http`. `attachment` and `multipart` are not part of the DSL, which has no streamed bodies."""

    method: Annotated[str, AfterValidator(_method)]
    endpoint: AnyEndpoint
    headers: Annotated[Scalars, AfterValidator(_fields)] = Field(default_factory=dict)
    query: Annotated[dict[str, Any] | str, PlainValidator(_query), base.QUERY] = Field(default_factory=dict)
    body: Any = None
    attachment: str | None = None
    """Handle of the attachment to send as the body, usually an expression."""
    multipart: Fields | None = None
    output: Literal["raw", "content", "response"] = "content"
    redirect: StrictBool = False

    _has_one_body = base.at_most_one(
        "body", "attachment", "multipart", cause="expected one of body, attachment and multipart", may_be_null=True
    )


# patterns of a name in protobuf, of the full name of a service, and of the host of a gRPC server
IDENTIFIER: Final = "[A-Za-z_][A-Za-z0-9_]*"
FULL_NAME: Final = rf"{IDENTIFIER}(\.{IDENTIFIER})*"
HOST: Final = r"(https?://)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
_SERVICE: Final = base.pattern_or_expression(FULL_NAME, "the full name of a service, such as pets.v1.Pets")
_HOST: Final = base.pattern_or_expression(HOST, "a host such as api.example.com, without its port")
_RPC: Final = base.pattern_or_expression(IDENTIFIER, "the name of a method, such as GetPet")

_no_file: Final = accept(
    lambda value: not (isinstance(value, str) and value.lower().startswith("file:")),
    Code.URI_INVALID,
    "files of a runner are not read: `flowhook apply` takes those beside the flow file, else serve it over http(s)",
)


def type_or_expression(expected: str, *types: type) -> Callable[[object], object]:
    cause = f"expected {expected}, or an expression ${{ … }}"
    return accept(lambda value: isinstance(value, types) or is_expression(value), Code.VALUE_TYPE, cause)


EMBEDDED: Final = "embedded:"  # begins the URI of a document that the flow contains, in base64url
_EMBEDDED: Final = re.compile(rf"{EMBEDDED}[A-Za-z0-9_-]*")


def _resource_uri(value: str) -> str:
    return value if _EMBEDDED.fullmatch(value) else base.check_uri_template(value)


_Uri = Annotated[str, BeforeValidator(_no_file), AfterValidator(_resource_uri)]
_Messages = Annotated[
    dict[str, Any] | list[Any] | str,
    PlainValidator(type_or_expression("a mapping, a list of them for a stream", dict, list)),
    base.MESSAGES,
]
_Parameters = Annotated[dict[str, Any] | str, PlainValidator(type_or_expression("a mapping", dict)), base.PARAMETERS]


class FetchedEndpoint(Endpoint):
    """The endpoint of a resource, spelled out."""

    uri: _Uri


class ExternalResource(Model):
    """A resource that is fetched before a call, over http(s)."""

    name: str | None = None
    endpoint: Annotated[
        Annotated[FetchedEndpoint, Tag("<configuration>")] | Annotated[_Uri, Tag("<uri>")], Discriminator(endpoint_tag)
    ]


class GrpcService(Model):
    """The service that is called."""

    name: Annotated[str, Field(max_length=255), AfterValidator(_SERVICE)]
    host: Annotated[str, AfterValidator(_HOST)]
    """TLS is used on port 443 and behind `https://`."""
    port: Annotated[int | str, base.integer_or_expression("a port", 1, 65535), base.PORT] | None = None
    """Default: 443."""
    authentication: ReferenceableAuthenticationPolicy | None = None


class GrpcArguments(Model):
    """`with` of `call: grpc`."""

    proto: ExternalResource | None = None
    """The .proto that describes the service. None: the server is asked by reflection, which the DSL does not have."""
    service: GrpcService
    method: Annotated[str, Field(max_length=255), AfterValidator(_RPC)]
    arguments: _Messages = Field(default_factory=dict)
    """The message; for a method that takes a stream, a list of messages, or the only one."""


class OpenApiArguments(Model):
    """`with` of `call: openapi`."""

    document: ExternalResource
    """The OpenAPI 3 or Swagger 2.0 document, as JSON or YAML."""
    operation_id: Annotated[str, Field(min_length=1, max_length=255, alias="operationId")]
    parameters: _Parameters = Field(default_factory=dict)
    """By name. What the operation does not declare is the body: the value of `body`, or an object of all the rest."""
    authentication: ReferenceableAuthenticationPolicy | None = None
    output: Literal["raw", "content", "response"] = "content"
    redirect: StrictBool = False


_PROTOCOLS = Literal[
    "amqp", "amqp1", "anypointmq", "googlepubsub", "http", "ibmmq", "jms", "kafka", "mercure", "mqtt", "mqtt5", "nats",
    "pulsar", "redis", "sns", "solace", "sqs", "stomp", "ws",
]  # fmt: skip


class AsyncApiServer(Model):
    """The server to use, of those in the document."""

    name: Annotated[str, Field(min_length=1)]
    variables: _Parameters = Field(default_factory=dict)


class AsyncApiMessage(Model):
    """A message to publish."""

    payload: Any = None
    headers: _Parameters = Field(default_factory=dict)


_iterator: Final = accept(lambda value: isinstance(value, dict), Code.VALUE_TYPE, "expected a mapping")


class SubscriptionLifetime(Model):
    """The end of a subscription: at least one of `amount`, `while` and `until`."""

    amount: Annotated[StrictInt, Field(ge=1)] | None = None
    """Messages to consume."""
    for_: Duration | None = Field(None, alias="for")
    """How long to consume messages."""
    while_: str | None = Field(None, alias="while")
    """Expression, with or without `${ }`, over the array of consumed messages; evaluated before each message."""
    until: str | None = None
    """The same, evaluated after each message."""

    _ends = base.at_least_one(
        "amount", "while_", "until", cause="expected one of amount, while and until", may_be_null=True
    )


class AsyncApiSubscription(Model):
    """The messages to consume."""

    filter: str | None = None
    """Expression, with or without `${ }`, over a message: one for which it is not true is dropped."""
    consume: SubscriptionLifetime
    foreach: Annotated[Any, BeforeValidator(_iterator)] = None
    """A `SubscriptionIterator`, as that of `listen`."""


class AsyncApiArguments(Model):
    """`with` of `call: asyncapi`."""

    document: ExternalResource
    """The AsyncAPI 2 or 3 document, as JSON or YAML."""
    channel: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """With AsyncAPI 2: the channel, whose operation `publish` sends a `message`, and `subscribe` receives some."""
    operation: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """With AsyncAPI 3: the operation."""
    server: AsyncApiServer | None = None
    """Default: the first server that the operation's channel is available at, and that has the `protocol`."""
    protocol: _PROTOCOLS | None = None
    message: AsyncApiMessage | None = None
    subscription: AsyncApiSubscription | None = None
    authentication: ReferenceableAuthenticationPolicy | None = None

    _publishes = exactly_one("message", "subscription", cause="expected a message or a subscription")
    _is_one = exactly_one(
        "channel", "operation", cause="expected a channel (of AsyncAPI 2) or an operation (of AsyncAPI 3)"
    )


class McpHttpTransport(Model):
    """Streamable HTTP."""

    endpoint: AnyEndpoint
    headers: Annotated[Scalars, AfterValidator(_fields)] = Field(default_factory=dict)


class McpStdioTransport(Model):
    """A process of the runner, which talks over its standard streams."""

    command: Annotated[str, Field(min_length=1)]
    arguments: tuple[str, ...] = ()
    environment: Scalars = Field(default_factory=dict)


class McpTransport(Model):
    """The transport: one of these."""

    http: McpHttpTransport | None = None
    stdio: McpStdioTransport | None = None

    _is_one = exactly_one("http", "stdio", cause="expected one of http and stdio")


class McpClient(Model):
    """The name that the client introduces itself with."""

    name: Annotated[str, Field(min_length=1)]
    version: Annotated[str, Field(min_length=1)]


class McpArguments(Model):
    """`with` of `call: mcp`."""

    protocol_version: str = Field("2025-06-18", alias="protocolVersion")
    method: Literal[
        "tools/list", "tools/call", "prompts/list", "prompts/get",
        "resources/list", "resources/read", "resources/templates/list",
    ]  # fmt: skip
    parameters: _Parameters = Field(default_factory=dict)
    timeout: Duration | None = None
    transport: McpTransport
    client: McpClient | None = None


FUNCTION_ARGUMENTS: Final[Mapping[str, type[Model]]] = {
    "asyncapi": AsyncApiArguments,
    "grpc": GrpcArguments,
    "http": HttpArguments,
    "mcp": McpArguments,
    "openapi": OpenApiArguments,
}
"""Model of the arguments, by function name."""

_Text = Annotated[str, Field(min_length=1)]
_Mailboxes = Annotated[
    list[Any] | str, PlainValidator(type_or_expression("a mailbox, or a list of them", str, list)), base.TEXT_OR_LIST
]


class TwitterPostArguments(Model):
    """`with` of a `call: twitter.post`."""

    text: _Text
    """Text of the post. The API checks its length, whose limit depends on the account."""
    secret: _Text = "twitter"  # noqa: S105 - the name of a secret
    """Name of the secret with the credentials."""


class ReplyArguments(Model):
    """`with` of a `call: reply`."""

    status: Annotated[int | str, base.integer_or_expression("a status", 200, 599), base.STATUS] = 200
    """Status of the response."""
    headers: _Parameters = Field(default_factory=dict)
    """Headers of the response; a list stands for several headers of one name."""
    body: Any = None
    """A string is sent as it is, other values as JSON; nothing is sent when it is absent or null. At most 1 MiB."""


class WebhookSendArguments(Model):
    """`with` of a `call: webhook.send`."""

    url: _Text
    """URL of the receiver: absolute, http or https. Redirects are not followed."""
    body: Any
    """A string is sent as it is, other values as JSON."""
    secret: _Text
    """Name of the secret to sign with: `whsec_` and base64, or any text."""
    content_type: str | None = None
    """Media type. Default: `application/json`, or `text/plain; charset=utf-8` for a string."""
    headers: _Parameters = Field(default_factory=dict)
    """Headers to add."""
    id: str | None = None
    """`webhook-id`. Default: derived from the execution and the task, the same for every repetition."""
    timeout: Duration | None = None
    """Time to wait for the response, such as `PT10S`; at most the call's own deadline."""


class EmailSendArguments(Model):
    """`with` of a `call: email.send`; it has a `text`, a `html`, or both."""

    to: _Mailboxes
    """Recipients: one mailbox in each string, such as `Ada Lovelace <ada@example.com>`."""
    cc: _Mailboxes = ""
    """Recipients of a copy."""
    bcc: _Mailboxes = ""
    """Recipients of a copy who are hidden from the others."""
    from_: str = Field(alias="from")
    """Sender."""
    subject: str
    """One line."""
    text: str | None = None
    """Body in plain text."""
    html: str | None = None
    """Body in HTML; together with `text`, an alternative to it."""
    reply_to: _Mailboxes = ""
    """Recipients of replies, if not the sender."""
    smtp: _Text = "smtp"
    """Name of the secret with the mail server and its credentials."""


COMPONENT_ARGUMENTS: Final[Mapping[str, type[Model]]] = {
    "email.send": EmailSendArguments,
    "reply": ReplyArguments,
    "twitter.post": TwitterPostArguments,
    "webhook.send": WebhookSendArguments,
}
"""Model of the arguments, by component name."""

SECRET_ARGUMENTS: Final[Mapping[str, str]] = {"email.send": "smtp", "twitter.post": "secret", "webhook.send": "secret"}
"""Argument that is the name of the secret which a component reads, by component name."""


def read_secret(call: Mapping[str, Any]) -> tuple[Path, str] | None:
    """Return the key of a call that names the secret it reads, and the name; None: reads none, or data decides."""
    component, arguments = call["call"], call.get("with", {})
    key = SECRET_ARGUMENTS.get(component)
    if key is None or not isinstance(arguments, Mapping):
        return None
    name = arguments.get(key, COMPONENT_ARGUMENTS[component].model_fields[key].default)
    path = ("with", key) if key in arguments else ("call",)
    return (path, name) if isinstance(name, str) and not is_expression(name) else None
