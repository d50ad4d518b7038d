"""`email.send`: send an e-mail by SMTP.

The secret, `smtp` by default, is JSON: `{"host", "port"?, "username"?, "password"?, "tls"?}`. `tls` is `starttls`
(default; port 587), `implicit` (465) or `none` (25), which sends no password. Certificates are verified. Nothing is
sent to a server that does not offer the requested TLS.

A permanent rejection by the server is a communication error with status 422, a temporary one with status 503.

One text is one mailbox: an address from an event cannot add further addresses or header lines.

Source: RFC 5321 (SMTP; mailboxes: section 4.1.2), RFC 3207 (STARTTLS), RFC 8314 (implicit TLS), RFC 4954 (AUTH), RFC
5322 (messages), RFC 3834, section 5 (Auto-Submitted).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import Annotated, Any, Final, Literal, Self

import aiosmtplib
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from flowhook import limits
from flowhook.document.models.calls import EmailSendArguments
from flowhook.document.models.credentials import SecretName
from flowhook.security.address_policy import POLICY, AddressPolicy
from runner.components.base import Context, component
from runner.interpreter.errors import Kind, TaskFault, fault, shorten
from runner.outbound import dns
from runner.outbound.dns import TLS, connect_cause, refused_status

MAX_ADDRESS_LENGTH: Final = 254  # Source: RFC 3696, erratum 1690
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = re.compile(rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@(?P<domain>{_LABEL}(?:\.{_LABEL})*)")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_NAMED: Final = re.compile(r'(?P<quote>"?)(?P<name>[^"<>]*?)(?P=quote)\s*<(?P<address>[^<>]*)>')
MAX_RECIPIENTS: Final = 100  # A server must accept this many in one message. Source: RFC 5321, section 4.5.3.1.8.
MAX_PART_LENGTH: Final = 1 * limits.MIB  # characters of the body, in each of its two forms
MAX_LINE_LENGTH: Final = 998  # Source: RFC 5322, section 2.1.1
QUIT_SECONDS: Final = 1.0  # timeout of QUIT; the server has accepted the message by then
PERMANENT: Final = 422
TRANSIENT: Final = 503
_PORTS: Final = {"starttls": 587, "implicit": 465, "none": 25}
_REFUSED_FOR_GOOD: Final = 500


def _mailbox(text: str) -> Address:
    """Return the one mailbox that a text names: `ada@example.com`, or `Ada Lovelace <ada@example.com>`.

    Raises:
        ValueError: it names none, more than one, or one that needs SMTPUTF8; the message does not quote it.
    """
    _check_line(text)
    named = _NAMED.fullmatch(text.strip())
    address = named["address"].strip() if named else text.strip()
    if not address.isascii():
        raise ValueError("an address must be ASCII; write an international domain as xn--…")
    if len(address) > MAX_ADDRESS_LENGTH or not _ADDRESS.fullmatch(address):
        raise ValueError("expected one address such as ada@example.com, or Ada <ada@example.com>")
    return Address(display_name=named["name"].strip() if named else "", addr_spec=address)


def _check_line(text: str) -> str:
    if _CONTROLS.search(text):  # a line break would begin another header
        raise ValueError("must be one line, without control characters")
    return text


def _check_mailbox(text: str) -> str:
    _mailbox(text)
    return text


# `ada@example.com`, or `Ada Lovelace <ada@example.com>`
MailboxText = Annotated[str, Field(max_length=MAX_LINE_LENGTH), AfterValidator(_check_mailbox)]

MailboxTexts = MailboxText | Annotated[list[MailboxText], Field(max_length=MAX_RECIPIENTS)]
Part = Annotated[str, Field(max_length=MAX_PART_LENGTH)]


class EvaluatedEmailSendArguments(EmailSendArguments):
    """Evaluated arguments of a `call: email.send`."""

    to: MailboxTexts
    cc: MailboxTexts = Field(default_factory=list)
    bcc: MailboxTexts = Field(default_factory=list)
    from_: MailboxText = Field(alias="from")
    subject: Annotated[str, Field(max_length=MAX_LINE_LENGTH), AfterValidator(_check_line)]
    text: Part | None = None
    html: Part | None = None
    reply_to: MailboxTexts = Field(default_factory=list)
    smtp: SecretName = "smtp"

    @model_validator(mode="after")
    def _has_a_body(self) -> Self:
        if self.text is None and self.html is None:
            raise ValueError("needs `text`, `html` or both")
        return self


class _Server(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    host: Annotated[str, Field(min_length=1, max_length=255)]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    username: Annotated[str, Field(min_length=1)] | None = None
    password: str = ""
    tls: Literal["starttls", "implicit", "none"] = "starttls"

    @model_validator(mode="after")
    def _keeps_its_password(self) -> Self:
        if self.tls == "none" and self.username is not None:
            raise ValueError("a password requires TLS: set tls to starttls or implicit")
        return self


@component("email.send")
async def send(arguments: EvaluatedEmailSendArguments, context: Context) -> Any:
    """Send an e-mail; returns `{message_id, accepted, refused}`, the latter with the server's code for each address."""
    server = _server(await context.secret(arguments.smtp), arguments.smtp)
    sender = _mailbox(arguments.from_)
    to, cc, bcc, reply_to = (
        tuple(_mailbox(text) for text in ([given] if isinstance(given, str) else given))
        for given in (arguments.to, arguments.cc, arguments.bcc, arguments.reply_to)
    )
    recipients = list(dict.fromkeys(mailbox.addr_spec for mailbox in (*to, *cc, *bcc)))
    if not 1 <= len(recipients) <= MAX_RECIPIENTS:
        detail = f"email.send: expected 1 to {MAX_RECIPIENTS} recipients, but there are {len(recipients)}"
        raise fault(Kind.CONFIGURATION, detail)
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    for name, mailboxes in (("To", to), ("Cc", cc), ("Reply-To", reply_to)):
        if mailboxes:
            message[name] = mailboxes
    message["Subject"] = arguments.subject
    message["Date"] = datetime.now(UTC)
    # the same when the call is repeated, so that receivers can drop duplicates
    call = hashlib.sha256(context.idempotency_key.encode()).hexdigest()[:40]
    message["Message-ID"] = identifier = f"<{call}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    if arguments.text is None:
        message.set_content(arguments.html or "", subtype="html", cte="quoted-printable")
    else:
        message.set_content(arguments.text, cte="quoted-printable")
        if arguments.html is not None:
            message.add_alternative(arguments.html, subtype="html", cte="quoted-printable")
    origin = f"smtp://{server.host}:{server.port or _PORTS[server.tls]}"
    with context.calling(origin):
        async with _session(server, address_policy=context.settings.address_policy) as smtp:
            refused, _ = await smtp.sendmail(sender.addr_spec, recipients, message.as_bytes())
    return {
        "message_id": identifier,
        "accepted": [address for address in recipients if address not in refused],
        "refused": [
            {"address": address, "code": response.code, "message": shorten(response.message)}
            for address, response in refused.items()
        ],
    }


def _server(secret: bytes, name: str) -> _Server:
    try:
        return _Server.model_validate_json(secret)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise fault(
            Kind.CONFIGURATION,
            f"the secret {name} is not JSON with host and, where needed, port, username, password and tls "
            f"(starttls, implicit or none): {where}{': ' if where else ''}{first['msg']}",
        ) from None


@contextlib.asynccontextmanager
async def _session(server: _Server, *, address_policy: AddressPolicy) -> AsyncIterator[aiosmtplib.SMTP]:
    """Open a session, including TLS and login, and translate errors within it to those of the DSL."""
    where = f"{server.host}:{server.port or _PORTS[server.tls]}"
    smtp: aiosmtplib.SMTP | None = None
    try:
        connected = await dns.connect(server.host, server.port or _PORTS[server.tls], address_policy=address_policy)
        smtp = aiosmtplib.SMTP(
            hostname=server.host,
            sock=connected,
            use_tls=server.tls == "implicit",
            start_tls=server.tls == "starttls",
            tls_context=TLS,
            local_hostname=_own_name(connected),
            timeout=None,  # the call has a deadline
        )
        try:
            await smtp.connect()
        except BaseException:
            connected.close()
            raise
        if server.username is not None:
            await smtp.login(server.username, server.password)
        yield smtp
        with contextlib.suppress(aiosmtplib.SMTPException, OSError):
            await smtp.quit(timeout=QUIT_SECONDS)
    except (aiosmtplib.SMTPException, OSError, UnicodeError) as problem:
        raise _explain(problem, where) from None
    finally:
        if smtp is not None:
            smtp.close()


def _own_name(connected: socket.socket) -> str:
    """Return the name for EHLO: the host's full name, else its address. Source: RFC 5321, section 4.1.1.1."""
    name = socket.gethostname()
    if "." in name:
        return name
    address = str(connected.getsockname()[0]).partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _explain(problem: Exception, where: str) -> TaskFault:
    """Return an error of the DSL; it may quote the server, but never what was sent."""
    match problem:
        case aiosmtplib.SMTPAuthenticationError(code=code):
            return fault(Kind.AUTHENTICATION, f"{where} refused the user name or the password ({code})")
        case aiosmtplib.SMTPRecipientsRefused(recipients=recipients):
            said = "; ".join(f"{item.recipient}: {item.code} {item.message}" for item in recipients)
            status = _status(min(item.code for item in recipients))
            return fault(Kind.COMMUNICATION, f"{where} refused all recipients: {said}", status=status)
        case aiosmtplib.SMTPResponseException(code=code, message=message):
            return fault(Kind.COMMUNICATION, f"{where} answered {code} {message}", status=_status(code))
        case TimeoutError():
            return fault(Kind.TIMEOUT, f"{where} did not answer within the timeout")
    lasting = type(problem) is aiosmtplib.SMTPException  # it lacks something that is required
    detail = f"{where}: {_cause(problem)}"
    return fault(Kind.COMMUNICATION, detail, status=PERMANENT if lasting else refused_status(problem))


def _status(code: int) -> int:
    """Return the status that says whether a retry makes sense. Source: RFC 5321, section 4.2.1."""
    return PERMANENT if code >= _REFUSED_FOR_GOOD else TRANSIENT


def _cause(problem: Exception) -> str:
    if isinstance(problem, ssl.SSLError) or isinstance(problem.__cause__, ssl.SSLError):
        return "TLS failed, or the certificate is not valid"
    if isinstance(problem, aiosmtplib.SMTPException) and POLICY not in str(problem):
        closed = isinstance(problem, aiosmtplib.SMTPConnectError | aiosmtplib.SMTPServerDisconnected)
        return "the server closed the connection" if closed else problem.message
    return connect_cause(problem) or "the connection broke"
