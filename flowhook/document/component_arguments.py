"""Models of the arguments of built-in components, for checks when a flow is applied.

Runners validate the evaluated arguments of every component. The models here find errors earlier: they know the keys,
and validate every value that is not an expression.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, PlainValidator

from flowhook.document import schema_overrides
from flowhook.document.calls import type_or_expression
from flowhook.document.codes import Code
from flowhook.document.model import Model
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


class TwitterPost(Model):
    """`with` of a `call: twitter.post`.

    Attributes:
        text: how long it may be is the API's to judge: it depends on the account.
        secret: name of the secret with the credentials.
    """

    text: _Text
    secret: _Text = "twitter"  # noqa: S105 - the name of a secret


class Reply(Model):
    """`with` of a `call: reply`."""

    status: Annotated[int | str, PlainValidator(_status), schema_overrides.STATUS] = _MIN_STATUS
    headers: _Headers = Field(default_factory=dict)
    body: Any = None


class WebhookSend(Model):
    """`with` of a `call: webhook.send`."""

    url: _Text
    body: Any
    secret: _Text
    content_type: str | None = None
    headers: _Headers = Field(default_factory=dict)
    id: str | None = None
    timeout: Duration | None = None


class EmailSend(Model):
    """`with` of a `call: email.send`; it has a `text`, a `html`, or both."""

    to: _Mailboxes
    cc: _Mailboxes = ""
    bcc: _Mailboxes = ""
    from_: str = Field(alias="from")
    subject: str
    text: str | None = None
    html: str | None = None
    reply_to: _Mailboxes = ""
    smtp: _Text = "smtp"


ARGUMENTS: Final[Mapping[str, type[Model]]] = {
    "email.send": EmailSend,
    "reply": Reply,
    "twitter.post": TwitterPost,
    "webhook.send": WebhookSend,
}
"""Model of the arguments, by component name."""
