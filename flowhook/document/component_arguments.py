"""Models of the arguments of built-in components, as authors write them.

They define the keys, and validate the values that are not expressions when a flow is applied. Runners validate the
evaluated arguments by subclasses, which narrow the types of values and add no key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, PlainValidator

from flowhook.document import schema_overrides
from flowhook.document.calls import type_or_expression
from flowhook.document.codes import Code
from flowhook.document.model import Model
from flowhook.document.problems import Path
from flowhook.document.timing import Duration
from flowhook.document.validation import validation_error
from flowhook.expressions import is_expression

_MIN_STATUS: Final = 200
_MAX_STATUS: Final = 599


def _status(value: object) -> object:
    number = isinstance(value, int) and not isinstance(value, bool) and _MIN_STATUS <= value <= _MAX_STATUS
    if not number and not is_expression(value):
        raise validation_error(Code.VALUE_RANGE, "expected a status, 200 to 599, or an expression ${ … }")
    return value


_Text = Annotated[str, Field(min_length=1)]
_Headers = Annotated[
    dict[str, Any] | str, PlainValidator(type_or_expression("a mapping", dict)), schema_overrides.PARAMETERS
]
_Mailboxes = Annotated[
    list[Any] | str,
    PlainValidator(type_or_expression("a mailbox, or a list of them", str, list)),
    schema_overrides.TEXT_OR_LIST,
]


class TwitterPostArguments(Model):
    """`with` of a `call: twitter.post`."""

    text: _Text
    """Text of the post. The API checks its length, whose limit depends on the account."""
    secret: _Text = "twitter"  # noqa: S105 - the name of a secret
    """Name of the secret with the credentials."""


class ReplyArguments(Model):
    """`with` of a `call: reply`."""

    status: Annotated[int | str, PlainValidator(_status), schema_overrides.STATUS] = _MIN_STATUS
    """Status of the response."""
    headers: _Headers = Field(default_factory=dict)
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
    headers: _Headers = Field(default_factory=dict)
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


ARGUMENTS: Final[Mapping[str, type[Model]]] = {
    "email.send": EmailSendArguments,
    "reply": ReplyArguments,
    "twitter.post": TwitterPostArguments,
    "webhook.send": WebhookSendArguments,
}
"""Model of the arguments, by component name."""

SECRET_ARGUMENTS: Final[Mapping[str, str]] = {"email.send": "smtp", "twitter.post": "secret", "webhook.send": "secret"}
"""Argument that is the name of the secret which a component reads, by component name."""


def read_secret(call: Mapping[str, Any]) -> tuple[Path, str] | None:
    """Return the key of a call that decides which secret its component reads, and the name of that secret.

    None if it reads none, or if data decides.
    """
    component, arguments = call["call"], call.get("with", {})
    key = SECRET_ARGUMENTS.get(component)
    if key is None or not isinstance(arguments, Mapping):
        return None
    name = arguments.get(key, ARGUMENTS[component].model_fields[key].default)
    path = ("with", key) if key in arguments else ("call",)
    return (path, name) if isinstance(name, str) and not is_expression(name) else None
