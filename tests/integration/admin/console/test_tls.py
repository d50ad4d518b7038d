"""The admin port with TLS: the cookie is `Secure`, and a renewed certificate is served without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import ssl

import aiohttp
import pytest
from support.certificates import Authority
from support.consoles import running_console
from support.patience import PATIENCE

from admin import app
from flowhook.errors import InvalidError

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_operators_log_in_over_tls_and_see_a_renewed_certificate(router, tmp_path, monkeypatch):
    monkeypatch.setattr(app, "RENEWAL_SECONDS", 0.05)
    authority = Authority(tmp_path)
    certificate, key = authority.issue("localhost")
    files = {"admin_tls_cert_file": certificate, "admin_tls_key_file": key}
    async with running_console(router, **files) as console:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with aiohttp.ClientSession(f"https://{console.address}") as session:
            data = {"token": router.token("view")}
            async with session.post("/login", data=data, ssl=context, allow_redirects=False) as response:
                assert response.status == 303
                assert "Secure" in response.headers["Set-Cookie"]
        before = await shown(console.address, context)
        renewed, renewed_key = authority.issue("renewed")
        shutil.copy(renewed_key, key)
        shutil.copy(renewed, certificate)
        async with asyncio.timeout(PATIENCE):
            while await shown(console.address, context) == before:
                await asyncio.sleep(0.05)


async def test_clients_that_break_off_over_tls_leave_no_trace_in_the_log(router, tmp_path, caplog):
    certificate, key = Authority(tmp_path).issue("localhost")
    files = {"admin_tls_cert_file": certificate, "admin_tls_key_file": key}
    async with running_console(router, **files) as console:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host, _, port = console.address.rpartition(":")
        head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
        for sent in (b"", head[:20], head, head + b"x" * 50):
            reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
            writer.write(sent)
            os.write(writer.get_extra_info("socket").fileno(), b"this is no record of TLS")
            with contextlib.suppress(OSError):  # an alert, of which SSLError is raised
                async with asyncio.timeout(PATIENCE):
                    await reader.read()
            writer.transport.abort()
        assert await shown(console.address, context)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def shown(address, context):
    """The certificate that the server presents."""
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return certificate


@pytest.mark.parametrize("given", ["admin_tls_cert_file", "admin_tls_key_file"])
async def test_one_file_alone_is_refused(router, tmp_path, given):
    path = tmp_path / "file.pem"
    path.write_text("")
    with pytest.raises(InvalidError, match="--admin-tls-cert-file and --admin-tls-key-file"):
        async with running_console(router, **{given: path}):
            pass
