"""A real SMTP server on a free port that remembers what it was given."""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
import warnings
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiosmtpd.smtp import SMTP, AuthResult


@dataclass(frozen=True)
class DeliveredMessage:
    sender: str
    recipients: list[str]
    content: bytes
    tls: bool
    user: str

    @property
    def message(self):
        return email.message_from_bytes(self.content, policy=email.policy.default)


class MailServer:
    """What arrived, and whom and what the server refuses: replies by recipient, or for the whole message."""

    def __init__(self):
        self.port = 0
        self.delivered: list[DeliveredMessage] = []
        self.refused: dict[str, str] = {}
        self.verdict = ""
        self.greeted: list[str] = []

    async def handle_EHLO(self, server, session, envelope, hostname, responses):  # noqa: N802
        session.host_name = hostname
        self.greeted.append(hostname)
        return responses

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        if self.verdict:
            return self.verdict
        user = session.auth_data or b""
        self.delivered.append(
            DeliveredMessage(
                envelope.mail_from, envelope.rcpt_tos, envelope.content, session.ssl is not None, user.decode()
            )
        )
        return "250 queued"

    def authenticate(self, server, session, envelope, mechanism, data):
        good = (data.login, data.password) == (b"ada", b"correct horse battery")
        return AuthResult(success=good, handled=False, auth_data=data.login)


@asynccontextmanager
async def smtp_server(*, tls="none", certificate=None, offer_tls=True, auth=False):
    """Serve; `tls` as in the secret of `email.send`, `certificate` is a pair of PEM files."""
    box = MailServer()
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    loop = asyncio.get_running_loop()
    connections = []

    def connection():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it takes implicit TLS for none
            server = SMTP(
                box,
                hostname="mail.example.com",
                tls_context=context if tls == "starttls" and offer_tls else None,
                authenticator=box.authenticate if auth else None,
                auth_required=auth,
                auth_require_tls=tls == "starttls",
                loop=loop,
            )
        connections.append(server)
        return server

    server = await loop.create_server(connection, "127.0.0.1", 0, ssl=context if tls == "implicit" else None)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
        for each in connections:
            if each.transport is not None and not each.transport.is_closing():  # in Python 3.11.2 that would fail
                each.transport.abort()
        await server.wait_closed()
        tasks = [each._handler_coroutine for each in connections if each._handler_coroutine is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
