"""Bodies of half a gigabyte, and what becomes of them when senders, signatures and routers fail."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import io
import re
import sys
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from support.http_servers import http_server
from support.patience import PATIENCE
from support.systems import document, kill, running_system, until

from flowhook.limits import MIB

pytestmark = pytest.mark.e2e

SECRET = b"a secret of sixteen"
BLOCK = hashlib.shake_256(b"whatever").digest(MIB)
HALF_A_GIGABYTE = 512
WARM_UP = 4
GROWTH = 32 * MIB
WEBHOOK = "{auth: {hmac: {secret: large, header: X-Signature}}, max_body: 1GiB}"
FILM = {"Content-Type": "video/mp4"}


SENT = "- send: {call: http, with: {method: put, endpoint: 'URL', attachment: '${ .attachments[0].attachment }'}}"
FORMS = """
- send:
    call: http
    with:
      method: post
      endpoint: URL
      multipart:
        - {name: who, value: '${ .body.who }'}
        - {name: film, attachment: '${ .attachments[0].attachment }'}
        - {name: note, attachment: '${ .attachments[1].attachment }', filename: other.txt}
- show: {set: '${ {who: $workflow.input.body.who, note: $workflow.input.attachments[1].content} }'}
""".strip()

FORM = b"".join(
    (
        b'--b\r\nContent-Disposition: form-data; name="who"\r\n\r\nAda\r\n',
        b'--b\r\nContent-Disposition: form-data; name="film"; filename="film.mp4"\r\n\r\n' + BLOCK * 20 + b"\r\n",
        b'--b\r\nContent-Disposition: form-data; name="note"; filename="n.txt"\r\n\r\nshort\r\n',
        b"--b--\r\n",
    )
)


def blocks(count):
    """Give a body of so many MiB, whose blocks all differ."""
    for number in range(count):
        yield number.to_bytes(8) + BLOCK[8:]


def digest_of(count, new):
    for block in blocks(count):
        new.update(block)
    return new.hexdigest()


def signature(count, key=SECRET):
    return {"X-Signature": digest_of(count, hmac.new(key, digestmod="sha256"))}


def memory(pid, what):
    """Return `VmRSS` (memory now) or `VmHWM` (at most so far) of a process in bytes."""
    found = re.search(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024


class Large:
    """A cluster, and a server that takes what flows send on."""

    def __init__(self, system, taken, url):
        self.system = system
        self.cluster = system.cluster
        self.taken = taken
        self.url = url

    def blobs(self):
        """Return the bodies on disk, whole or not."""
        return list(Path(self.cluster.data_dir, "blobs").glob("*/*.body"))

    async def until_there_are(self, count):
        await until(lambda: len(self.blobs()) == count, f"there are {count} bodies on disk")

    async def send(self, flow, count, **headers):
        """Send a body of so many MiB, a block at a time."""

        async def body():
            for block in blocks(count):
                yield block

        headers = {**FILM, "Content-Length": str(count * MIB), **headers}
        return await self.system.request("POST", f"/hook/{flow}", data=body(), headers=headers)

    async def begin(self, flow, count, of):
        """Send some blocks of a larger body; returns the connection."""
        host, _, port = self.cluster.http.rpartition("/")[2].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST /hook/{flow} HTTP/1.1\r\nHost: {host}\r\nContent-Type: video/mp4\r\nContent-Length: {of * MIB}\r\n"
        )
        head += "".join(f"{name}: {value}\r\n" for name, value in signature(of).items())
        writer.write(head.encode() + b"\r\n")
        for block in blocks(count):
            writer.write(block)
            await writer.drain()
        return reader, writer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def large():
    taken = []

    async def take(request):
        if request.content_type.startswith("multipart/"):
            parts = [
                (part.name, part.filename, hashlib.sha256(await part.read()).hexdigest())
                async for part in await request.multipart()
            ]
            taken.append(parts)
        else:
            sha256, size = hashlib.sha256(), 0
            async for piece in request.content.iter_any():
                sha256.update(piece)
                size += len(piece)
            taken.append((request.content_type, size, sha256.hexdigest()))
        return web.json_response({"ok": True})

    options = ("--runners", "1", "--allow-private-addresses")
    async with http_server(take, client_max_size=1024 * MIB) as url, running_system(*options) as system:
        await system.secrets(large=SECRET.decode())
        await system.apply(
            document("shown", webhook=WEBHOOK, do="- show: {set: '${ .attachments }'}"),
            document("sent", webhook=WEBHOOK, do=SENT.replace("URL", url)),
            document("forms", webhook="{auth: none, max_body: 1GiB}", do=FORMS.replace("URL", url)),
        )
        yield Large(system, taken, url)


async def test_half_a_gigabyte_goes_through_while_edge_and_router_grow_by_less_than_32_mib(large):
    pids = [large.cluster.pid(process) for process in ("edge-1", "router-1", "runner-1")]
    # what the first large body needs once, such as modules that are imported for it, is not what one of any size takes
    await large.system.completed((await large.send("shown", WARM_UP, **signature(WARM_UP))).id)
    before = [memory(pid, "VmRSS") for pid in pids]
    answer = await large.send("shown", HALF_A_GIGABYTE, **signature(HALF_A_GIGABYTE))
    (attachment,) = await large.system.completed(answer.id)
    sha256 = digest_of(HALF_A_GIGABYTE, hashlib.sha256())
    assert (attachment["size"], attachment["sha256"]) == (HALF_A_GIGABYTE * MIB, sha256)
    grown = [memory(pid, "VmHWM") - start for pid, start in zip(pids, before, strict=True)]
    assert [each < GROWTH for each in grown] == [True] * 3, grown
    read = hashlib.sha256()
    async for piece in large.system.client.executions.body(answer.id):
        read.update(piece)
    assert read.hexdigest() == sha256


async def test_a_wrong_signature_is_401_and_leaves_nothing(large):
    before = len(large.blobs())
    answer = await large.send("shown", 8, **signature(8, b"wrong"))
    assert (answer.status, answer.json["reason"]) == (401, "UNAUTHENTICATED")
    await large.until_there_are(before)
    assert len(await large.system.executions("shown")) == before


@pytest.mark.parametrize("how", ["abort", "end"])
async def test_a_body_that_breaks_off_or_is_short_leaves_nothing(large, how):
    executions, before = await large.system.executions("shown"), len(large.blobs())
    _, writer = await large.begin("shown", 4, of=8)
    await large.until_there_are(before + 1)
    if how == "abort":
        writer.transport.abort()
    else:
        writer.write_eof()
    await large.until_there_are(before)
    writer.close()
    assert await large.system.executions("shown") == executions


async def test_an_attachment_is_sent_on_byte_for_byte_and_printed_raw(large):
    execution_id = (await large.send("sent", 24, **signature(24))).id
    assert await large.system.completed(execution_id) == {"ok": True}
    sha256 = digest_of(24, hashlib.sha256())
    assert large.taken.pop() == ("video/mp4", 24 * MIB, sha256)
    command = f"{sys.executable} -P -m cli executions get {execution_id} --raw | sha256sum"
    assert (await large.system.shell(command, cwd=Path.cwd())).out.split()[0] == sha256
    (shown,) = (await large.system.flowhook("executions", "get", execution_id, "--json")).rows
    assert (shown["request"]["body_size"], shown["request"]["body"]) == (24 * MIB, None)


async def test_a_form_with_files_and_fields_is_taken_apart_and_sent_on_as_another_one(large):
    answer = await large.system.request(
        "POST", "/hook/forms", data=io.BytesIO(FORM), headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert await large.system.completed(answer.id) == {"who": "Ada", "note": "short"}
    assert large.taken.pop() == [
        ("who", None, hashlib.sha256(b"Ada").hexdigest()),
        ("film", "film.mp4", hashlib.sha256(BLOCK * 20).hexdigest()),
        ("note", "other.txt", hashlib.sha256(b"short").hexdigest()),
    ]


async def test_a_router_that_is_killed_in_the_middle_stores_nothing_and_the_sender_learns_so(large):
    executions, before = await large.system.executions("shown"), len(large.blobs())
    reader, writer = await large.begin("shown", 4, of=64)
    await large.until_there_are(before + 1)
    await kill(large.cluster, "router-1")
    with contextlib.suppress(ConnectionError):
        for block in blocks(60):
            writer.write(block)
            await writer.drain()
    with contextlib.suppress(ConnectionError):
        assert b" 503 " in await asyncio.wait_for(reader.readline(), PATIENCE)
    writer.close()
    await large.until_there_are(before)
    assert await large.system.executions("shown") == executions


async def test_what_was_accepted_before_the_router_was_killed_is_sent_on_afterwards(large):
    await large.system.client.flows.pause("sent")
    execution_id = (await large.send("sent", 8, **signature(8))).id
    await kill(large.cluster, "router-1")
    await until(lambda: resumed(large.system.client, "sent"), "the router is back")
    assert await large.system.completed(execution_id) == {"ok": True}
    assert large.taken.pop() == ("video/mp4", 8 * MIB, digest_of(8, hashlib.sha256()))


async def resumed(client, flow):
    with contextlib.suppress(Exception):
        return not (await client.flows.resume(flow)).paused
    return False
