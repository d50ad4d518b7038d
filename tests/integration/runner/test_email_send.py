"""`email.send` against a real SMTP server, with and without TLS."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl

import pytest
from support.certificates import Authority
from support.patience import PATIENCE
from support.smtp import smtp_server

from flowhook.process.settings import RunnerSettings
from runner.components import TaskFault, email_send
from runner.components.testing import call

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _quiet():
    """The server logs what it says, warnings for what we do on purpose among it."""
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)


@pytest.fixture
def certificate(tmp_path, monkeypatch):
    """A certificate for 127.0.0.1 of an authority that the component trusts."""
    authority = Authority(tmp_path)
    monkeypatch.setattr(email_send, "TLS", ssl.create_default_context(cafile=authority.ca_file))
    return authority.issue("mail")


def mail(
    port, *, key="evt_1:/do/0/mail#0", tls="none", user=None, server=None, settings=None, seconds=PATIENCE, **more
):
    secret = {"host": "127.0.0.1", "port": port, "tls": tls} if server is None else server
    if user:
        secret |= {"username": user[0], "password": user[1]}
    arguments = {"to": "ada@example.com", "from": "shop@example.org", "subject": "Hello", "text": "Hi!\n"} | more
    return call(
        email_send.send,
        {name: value for name, value in arguments.items() if value is not None},
        secrets={"smtp": json.dumps(secret).encode()},
        idempotency_key=key,
        settings=settings,
        seconds=seconds,
    )


def kind(problem):
    error = problem.value.error
    return error.type.rpartition("/")[2], error.status


async def test_a_message_arrives_with_its_headers_and_both_bodies():
    async with smtp_server() as box:
        result = await mail(
            box.port,
            to=["Ada Lovelace <ada@example.com>", "Grüße, Bob <bob@example.com>"],
            cc="cc@example.com",
            bcc=["bcc@example.com"],
            reply_to="Help <help@example.org>",
            subject="Größe ✓ 👩‍👩‍👧",
            text="Käse\n.\nende\n",
            html="<p>Käse</p>",
        )
    (delivered,) = box.delivered
    message = delivered.message
    assert delivered.sender == "shop@example.org"
    assert delivered.recipients == ["ada@example.com", "bob@example.com", "cc@example.com", "bcc@example.com"]
    assert [(str(item.display_name), item.addr_spec) for item in message["To"].addresses] == [
        ("Ada Lovelace", "ada@example.com"),
        ("Grüße, Bob", "bob@example.com"),
    ]
    assert (message["Cc"], message["Bcc"], message["Reply-To"]) == ("cc@example.com", None, "Help <help@example.org>")
    assert message["Subject"] == "Größe ✓ 👩‍👩‍👧"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime.tzinfo is not None
    assert message.get_body(["plain"]).get_content().replace("\r\n", "\n") == "Käse\n.\nende\n"
    assert message.get_body(["html"]).get_content().strip() == "<p>Käse</p>"
    assert result == {"message_id": message["Message-ID"], "accepted": delivered.recipients, "refused": []}
    assert all(len(line) <= 998 and line.isascii() for line in delivered.content.split(b"\r\n"))


async def test_html_alone_is_sent_as_html():
    async with smtp_server() as box:
        await mail(box.port, text=None, html="<b>x</b>")
    assert box.delivered[0].message.get_content_type() == "text/html"


async def test_a_repetition_has_the_same_message_id_and_another_call_has_another():
    async with smtp_server() as box:
        first = await mail(box.port)
        again = await mail(box.port)
        other = await mail(box.port, key="evt_1:/do/0/mail#1")
    assert first["message_id"] == again["message_id"] != other["message_id"]
    assert first["message_id"].endswith("@example.org>")
    assert [str(item.message["Message-ID"]) for item in box.delivered] == [
        first["message_id"],
        again["message_id"],
        other["message_id"],
    ]


async def test_someone_named_twice_gets_it_once():
    async with smtp_server() as box:
        result = await mail(box.port, to=["ada@example.com", "Ada <ada@example.com>"], cc="ada@example.com")
    assert box.delivered[0].recipients == result["accepted"] == ["ada@example.com"]


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_with_tls_the_password_is_sent_and_the_message_is_encrypted(certificate, tls):
    async with smtp_server(tls=tls, certificate=certificate, auth=True) as box:
        await mail(box.port, tls=tls, user=("ada", PASSWORD))
    assert [item.user for item in box.delivered] == ["ada"]
    assert box.delivered[0].tls == (tls == "starttls")  # the server takes implicit TLS for none


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_certificate_of_nobody_is_refused(tmp_path, tls):
    certificate = Authority(tmp_path).issue("mail")
    async with smtp_server(tls=tls, certificate=certificate) as box:
        with pytest.raises(TaskFault) as problem:
            await mail(box.port, tls=tls)
    assert kind(problem) == ("communication", 500)
    assert "certificate" in problem.value.error.detail
    assert not box.delivered


async def test_a_server_without_the_tls_that_was_requested_gets_nothing(certificate):
    async with smtp_server(tls="starttls", certificate=certificate, offer_tls=False) as box:
        with pytest.raises(TaskFault) as problem:
            await mail(box.port, tls="starttls", user=("ada", PASSWORD))
    assert kind(problem) == ("communication", email_send.PERMANENT)
    assert "STARTTLS" in problem.value.error.detail
    assert not box.delivered


async def test_a_wrong_password_is_an_authentication_error_that_does_not_show_it(certificate):
    async with smtp_server(tls="starttls", certificate=certificate, auth=True) as box:
        with pytest.raises(TaskFault) as problem:
            await mail(box.port, tls="starttls", user=("ada", "wrong-and-secret"))
    assert kind(problem) == ("authentication", 401)
    assert "wrong-and-secret" not in problem.value.error.detail
    assert not box.delivered


async def test_refused_recipients_are_reported_when_others_were_accepted():
    async with smtp_server() as box:
        box.refused["bob@example.com"] = "550 no such user"
        result = await mail(box.port, to=["ada@example.com", "bob@example.com"])
    assert result["accepted"] == ["ada@example.com"]
    assert result["refused"] == [{"address": "bob@example.com", "code": 550, "message": "no such user"}]


@pytest.mark.parametrize(
    ("reply", "status"),
    [("550 no such user", email_send.PERMANENT), ("451 come back later", email_send.TRANSIENT)],
)
async def test_when_all_are_refused_the_status_says_whether_to_try_again(reply, status):
    async with smtp_server() as box:
        box.refused["ada@example.com"] = reply
        with pytest.raises(TaskFault) as problem:
            await mail(box.port)
    assert kind(problem) == ("communication", status)
    assert reply in problem.value.error.detail


@pytest.mark.parametrize(
    ("reply", "status"), [("554 looks like spam", email_send.PERMANENT), ("452 disk full", email_send.TRANSIENT)]
)
async def test_a_message_that_is_refused_is_a_communication_error(reply, status):
    async with smtp_server() as box:
        box.verdict = reply
        with pytest.raises(TaskFault) as problem:
            await mail(box.port)
    assert kind(problem) == ("communication", status)


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        ({"subject": "a\r\nBcc: eve@example.com"}, "with.subject"),
        ({"to": "ada@example.com\r\nBcc: eve@example.com"}, "with.to"),
        ({"to": "ada@example.com, eve@example.com"}, "with.to"),
        ({"to": "Ada\nBcc: eve@example.com <ada@example.com>"}, "with.to"),
        ({"to": "ada@example.com> RCPT TO:<eve@example.com"}, "with.to"),
        ({"to": "list: ada@example.com, eve@example.com;"}, "with.to"),
        ({"to": "ada"}, "with.to"),
        ({"to": "käthe@example.com"}, "ASCII"),
        ({"from": "a@example.org, b@example.org"}, "with.from"),
        ({"reply_to": ["ok@example.org", "x\ty"]}, "with.reply_to"),
        ({"text": None}, "needs `text`, `html` or both"),
        ({"to": []}, "recipients"),
        ({"to": [f"u{number}@example.com" for number in range(60)], "cc": ["a@b.cd"] * 60}, ""),
        ({"to": [f"u{number}@example.com" for number in range(101)]}, "100"),
        ({"text": "x" * (email_send.MAX_PART_LENGTH + 1)}, "with.text"),
        ({"attachments": []}, "with.attachments"),
    ],
)
async def test_wrong_arguments_are_configuration_errors_and_nothing_is_sent(arguments, output):
    async with smtp_server() as box:
        if not output:  # counted once each: this is allowed
            await mail(box.port, **arguments)
            return
        with pytest.raises(TaskFault) as problem:
            await call(
                email_send.send,
                {"to": "ada@example.com", "from": "a@example.org", "subject": "s", "text": "t", **arguments},
                secrets={"smtp": json.dumps({"host": "127.0.0.1", "port": box.port, "tls": "none"}).encode()},
            )
    assert kind(problem) == ("configuration", 400)
    assert output in problem.value.error.detail
    assert "eve@" not in problem.value.error.detail
    assert not box.delivered


async def test_a_secret_that_is_not_set_is_an_authorization_error():
    with pytest.raises(TaskFault) as problem:
        await mail(1, smtp="other")
    assert kind(problem) == ("authorization", 403)
    assert "the secret other is not set" in problem.value.error.detail


@pytest.mark.parametrize(
    "secret",
    [
        b"",
        b"smtp.example.com",
        b'{"port": 25}',
        b'{"host": "h", "port": 0}',
        b'{"host": "h", "tls": "ssl"}',
        b'{"host": "h", "tls": "none", "username": "u", "password": "open-secret"}',
        b'{"host": "h", "passwort": "open-secret"}',
    ],
)
async def test_a_secret_that_is_no_server_is_a_configuration_error_that_does_not_show_it(secret):
    with pytest.raises(TaskFault) as problem:
        await call(
            email_send.send,
            {"to": "a@example.com", "from": "b@example.com", "subject": "s", "text": "t"},
            secrets={"smtp": secret},
        )
    assert kind(problem) == ("configuration", 400)
    assert "the secret smtp" in problem.value.error.detail
    assert "open-secret" not in problem.value.error.detail


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_private_address_is_refused_unless_allowed(host):
    async with smtp_server() as box:
        with pytest.raises(TaskFault) as problem:
            await mail(0, server={"host": host, "port": box.port, "tls": "none"}, settings=RunnerSettings())
    assert kind(problem) == ("communication", 403)
    assert "not allowed" in problem.value.error.detail
    assert not box.greeted


async def test_nobody_there_is_a_communication_error():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(TaskFault) as problem:
            await mail(nobody.getsockname()[1])
    assert kind(problem) == ("communication", 500)
    assert "Connection refused" in problem.value.error.detail


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 80 + ".example"])
async def test_a_name_that_leads_nowhere_is_a_communication_error(host):
    with pytest.raises(TaskFault) as problem:
        await mail(0, server={"host": host, "tls": "none"})
    assert kind(problem) == ("communication", 500)
    assert "the name can't be resolved" in problem.value.error.detail


@pytest.mark.parametrize("output", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"421 too busy\r\n"])
async def test_a_server_that_is_none_or_goes_away_is_a_communication_error(output):
    async def talk(_reader, writer):
        writer.write(output)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        with pytest.raises(TaskFault) as problem:
            await mail(server.sockets[0].getsockname()[1])
    assert kind(problem)[0] == "communication"


async def test_a_server_that_says_nothing_is_a_timeout():
    connected = asyncio.Event()

    async def wait(reader, writer):
        connected.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(wait, "127.0.0.1", 0) as server:
        with pytest.raises(TaskFault) as problem:
            await mail(server.sockets[0].getsockname()[1], seconds=0.3)
        await asyncio.wait_for(connected.wait(), PATIENCE)
    assert kind(problem) == ("timeout", 408)
