"""The tunnel of `flowhook dev`: programs that print what cloudflared, ngrok and Tailscale print, as stand-ins."""

from __future__ import annotations

import asyncio
import os
import re
import sys

import pytest
from support.patience import PATIENCE
from support.processes import running

from cli import development as tunnel
from cli.development import open_tunnel
from flowhook.errors import InvalidError, UnavailableError

# what each prints on stderr or stdout, and the URL in it; other URLs among it lead to pages and APIs of the makers
OUTPUTS = {
    "cloudflared": (
        """\
2026-01-15T10:00:00Z INF Thank you for trying Cloudflare Tunnel. https://developers.cloudflare.com/cloudflare-one/
2026-01-15T10:00:00Z INF Requesting new quick Tunnel on trycloudflare.com...
2026-01-15T10:00:02Z INF +-----------------------------------------------------+
2026-01-15T10:00:02Z INF |  Your quick Tunnel has been created! Visit it at:    |
2026-01-15T10:00:02Z INF |  https://shy-dog-42.trycloudflare.com                |
""",
        "https://shy-dog-42.trycloudflare.com",
    ),
    "ngrok": (
        """\
t=2026-01-15T10:00:00+0000 lvl=info msg="starting web service" obj=web addr=127.0.0.1:4040 allow_hosts=[]
t=2026-01-15T10:00:01+0000 lvl=info msg="started tunnel" obj=tunnels name=command_line addr=http://127.0.0.1:8080 \
url=https://a1b2-192-0-2-1.ngrok-free.app
""",
        "https://a1b2-192-0-2-1.ngrok-free.app",
    ),
    "tailscale": (
        """\
Available on the internet:

https://laptop.tail1234.ts.net/
|-- proxy http://127.0.0.1:8080

Press Ctrl+C to exit.
""",
        "https://laptop.tail1234.ts.net",
    ),
    "another": (
        "forwarding https://localhost:8080 and http://127.0.0.1 to https://x.tunnel.example:8443/\n",
        "https://x.tunnel.example:8443",
    ),
}
FAILURE = (
    'ERR failed to request quick Tunnel: Post "https://api.trycloudflare.com/tunnel": no such host\n'
    "https://www.cloudflare.com/website-terms/\n"
)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a program of a name on PATH that prints a text, and then waits or ends."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(name, text, then="sleep 3600"):
        (tmp_path / "text").write_text(text)
        path = tmp_path / name
        told = f'echo "$@" > {tmp_path}/arguments\nenv > {tmp_path}/environment\ncat {tmp_path}/text >&2'
        path.write_text(f"#!/bin/sh\n{told}\n{then}\n")
        path.chmod(0o755)
        return tmp_path

    return make


@pytest.mark.parametrize("name", OUTPUTS)
async def test_the_public_url_is_read_from_what_it_prints_and_it_ends_with_the_block(program, name, monkeypatch):
    text, url = OUTPUTS[name]
    monkeypatch.setenv("FLOWHOOK_TOKEN", "a-secret")
    folder = program(name, text, f"exec sleep 3600 {name}-marker")
    async with open_tunnel(f"{name} --to {{port}}" if name == "another" else name, 8123) as opened:
        assert opened.url.result() == url
        assert not opened.ended.is_set()
        assert "8123" in (folder / "arguments").read_text()
        assert "FLOWHOOK" not in (folder / "environment").read_text()
    assert opened.process.returncode is not None


async def test_one_that_ends_without_a_url_is_an_error_with_what_it_said(program):
    program("cloudflared", FAILURE, "exit 3")
    with pytest.raises(UnavailableError, match="the tunnel, cloudflared, ended with exit code 3") as caught:
        async with open_tunnel("cloudflared", 8080):
            pass
    assert 'ERR failed to request quick Tunnel: Post "https://api' in caught.value.message


async def test_one_that_prints_no_url_is_an_error_too_and_does_not_go_on(program, monkeypatch):
    monkeypatch.setattr(tunnel, "START_SECONDS", 1.0)
    program("cloudflared", FAILURE, "exec sleep 3601")
    with pytest.raises(UnavailableError, match="the tunnel, cloudflared, printed no URL; its last lines:"):
        async with open_tunnel("cloudflared", 8080):
            pass
    await running("3601")


async def test_a_url_that_is_known_is_not_waited_for(program):
    program("another", "no URL\n")
    async with open_tunnel("another", 8080, "https://hooks.example.com") as opened:
        assert opened.url.result() == "https://hooks.example.com"


async def test_what_it_prints_later_never_stops_it(program):
    text, _ = OUTPUTS["ngrok"]
    program(
        "ngrok",
        text,
        "head -c 1000000 /dev/zero | tr '\\0' x; i=0; while [ $i -lt 5000 ]; do echo more; i=$((i+1)); done",
    )
    async with open_tunnel("ngrok", 8080) as opened, asyncio.timeout(PATIENCE):
        await opened.ended.wait()
        assert "ngrok, ended with exit code 0; its last lines:\n  more" in opened.describe_end()


async def test_what_it_has_started_ends_with_it_though_it_ignores_the_request(program, monkeypatch):
    monkeypatch.setattr(tunnel, "STOP_SECONDS", 0.5)
    program("ngrok", OUTPUTS["ngrok"][0], "trap '' TERM; sleep 3603 & exit 0")
    async with asyncio.timeout(PATIENCE):
        async with open_tunnel("ngrok", 8080):
            await running("3603", 1)
        await running("3603")


async def test_what_is_shown_of_its_output_does_not_control_the_terminal(program):
    program("ngrok", "\x1b]0;title\x07 no\x00 account\n" + "x" * 9999, "exit 1")
    with pytest.raises(UnavailableError, match="no\ufffd account") as caught:
        async with open_tunnel("ngrok", 8080):
            pass
    assert not any(char in caught.value.message for char in "\x1b\x07\x00")
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize("command", ["nothing-of-the-kind --port {port}", " "])
async def test_a_program_that_is_not_there_is_told(command):
    with pytest.raises(InvalidError, match=re.escape("takes cloudflared, ngrok, tailscale, or a command")):
        async with open_tunnel(command, 8080):
            pass


async def test_it_ends_when_its_parent_is_killed(program):
    program("ngrok", OUTPUTS["ngrok"][0], "exec sleep 3602")
    script = """
import asyncio
from cli.development import open_tunnel
async def main():
    async with open_tunnel("ngrok", 8080):
        print("open", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert await parent.stdout.readline() == b"open\n"
    await running("3602", 1)
    parent.kill()
    await parent.wait()
    await running("3602")
