"""Composition of the message for `email.send`, with validation of its headers and addresses.

One text is one mailbox: an address from an event cannot add further addresses or header lines.

Source: RFC 5322 (messages), RFC 5321, section 4.1.2 (mailboxes), RFC 3834, section 5 (Auto-Submitted).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import Final

MAX_ADDRESS_LENGTH: Final = 254
"""Source: RFC 3696, erratum 1690."""

_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = re.compile(rf"(?P<local>{_ATOM}(?:\.{_ATOM})*)@(?P<domain>{_LABEL}(?:\.{_LABEL})*)")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_NAMED: Final = re.compile(r'(?P<quote>"?)(?P<name>[^"<>]*?)(?P=quote)\s*<(?P<address>[^<>]*)>')


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Sender or recipient: `Ada Lovelace <ada@example.com>`; the name may be empty."""

    name: str
    address: str

    @property
    def domain(self) -> str:
        """The part after the @."""
        return self.address.rpartition("@")[2]


def parse_mailbox(text: str) -> Mailbox:
    """Return the one mailbox that a text names: `ada@example.com`, or `Ada Lovelace <ada@example.com>`.

    Raises:
        ValueError: it names none, more than one, or one that needs SMTPUTF8; the message does not quote it.
    """
    check_line(text)
    named = _NAMED.fullmatch(text.strip())
    address = named["address"].strip() if named else text.strip()
    if not address.isascii():
        raise ValueError("an address must be ASCII; write an international domain as xn--…")
    if len(address) > MAX_ADDRESS_LENGTH or not _ADDRESS.fullmatch(address):
        raise ValueError("expected one address such as ada@example.com, or Ada <ada@example.com>")
    return Mailbox(named["name"].strip() if named else "", address)


def check_line(text: str) -> str:
    """Return a text unchanged if it is valid in a header.

    Raises:
        ValueError: it has control characters: a line break would begin another header.
    """
    if _CONTROLS.search(text):
        raise ValueError("must be one line, without control characters")
    return text


def message_id(idempotency_key: str, domain: str) -> str:
    """Return the Message-ID of a call: the same when the call is repeated, so that receivers can drop duplicates."""
    return f"<{hashlib.sha256(idempotency_key.encode()).hexdigest()[:40]}@{domain}>"


def compose(
    *,
    sender: Mailbox,
    to: Sequence[Mailbox],
    cc: Sequence[Mailbox],
    reply_to: Sequence[Mailbox],
    subject: str,
    text: str | None,
    html: str | None,
    identifier: str,
    date: datetime,
) -> bytes:
    """Return a message in wire format: 7 bit, lines that end with CRLF.

    Args:
        sender: for From.
        to: for To; may be empty.
        cc: for Cc; may be empty.
        reply_to: for Reply-To; may be empty.
        subject: one line.
        text: the body in plain text, or None.
        html: the body in HTML, an alternative to `text`; or None.
        identifier: Message-ID.
        date: for Date, with its time zone.
    """
    message = EmailMessage(policy=SMTP)
    message["From"] = _header(sender)
    for name, mailboxes in (("To", to), ("Cc", cc), ("Reply-To", reply_to)):
        if mailboxes:
            message[name] = tuple(_header(mailbox) for mailbox in mailboxes)
    message["Subject"] = subject
    message["Date"] = date
    message["Message-ID"] = identifier
    message["Auto-Submitted"] = "auto-generated"
    if text is not None:
        message.set_content(text, cte="quoted-printable")
        if html is not None:
            message.add_alternative(html, subtype="html", cte="quoted-printable")
    else:
        message.set_content(html or "", subtype="html", cte="quoted-printable")
    return message.as_bytes()


def _header(mailbox: Mailbox) -> Address:
    return Address(display_name=mailbox.name, addr_spec=mailbox.address)
