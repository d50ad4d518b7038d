"""The flows of `up --flows`: applied by the process that the supervisor starts, before a real router."""

from __future__ import annotations

import os
import ssl
import sys

import pytest
from aiohttp import web
from support.certificates import Authority
from support.http_servers import http_server
from support.routers import flow, running_router

from cli.supervisor.cluster_spec import Command
from cli.supervisor.initial_flows import apply_flows
from cli.supervisor.process_supervisor import StartRefusedError

HOOK = b"webhook: {auth: none}\n"
NEEDS = b"""
document: {dsl: 1.0.3, namespace: default, name: NAME, version: 1.0.0}
use: {secrets: [shared, own-NAME]}
do: []
"""


@pytest.fixture
async def router(tmp_path):
    async with running_router(tmp_path / "data") as running:
        yield running


@pytest.fixture
def start(router, tmp_path, capfd):
    """Has the files applied, and returns what is printed."""
    files = tmp_path / "flows"
    files.mkdir()

    async def run():
        async def settings():
            return {"FLOWHOOK_ROUTER": router.target, "FLOWHOOK_DATA_DIR": str(tmp_path / "data")}

        command = Command([sys.executable, "-P", "-m", "cli.applying", str(files)], dict(os.environ))
        run.webhooks = await apply_flows(command, settings)
        return capfd.readouterr()

    run.files = files
    return run


async def test_a_restart_does_not_revert_a_flow_that_was_changed_since(start, router):
    (start.files / "a.yaml").write_bytes(flow("a", HOOK))
    (start.files / "b.yaml").write_bytes(flow("b", HOOK))
    assert (await start()).out.splitlines() == ["flow a: created", "flow b: created"]
    async with router.client() as client:
        await client.flows.apply([flow("a", HOOK).replace(b"1.0.0", b"2.0.0")])
        out = (await start()).out
        assert "flow a: changed since its file was applied, and kept as it is; `flowhook apply -f" in out
        assert "flow b: unchanged" in out
        assert (await client.flows.get("a")).revision == 2
        assert start.webhooks == ["a", "b"]
        (start.files / "a.yaml").write_bytes(flow("a", HOOK).replace(b"1.0.0", b"3.0.0"))
        assert "flow a: updated" in (await start()).out
        await client.flows.delete("a")
        assert "flow a: created" in (await start()).out


async def test_secrets_that_are_not_set_take_one_line(start):
    for name in (b"x", b"y"):
        (start.files / f"{name.decode()}.yaml").write_bytes(NEEDS.replace(b"NAME", name))
    printed = await start()
    assert printed.err == ""
    assert printed.out.splitlines()[2:] == [
        "secrets that are not set yet: own-x (x), own-y (y), shared (x, y); `flowhook secrets set NAME` sets one"
    ]


CALLS = """
document: {dsl: 1.0.3, namespace: default, name: NAME, version: 1.0.0}
webhook: {auth: none}
use: {catalogs: {shop: {endpoint: 'ENDPOINT'}}}
do: [{log: {call: 'log:1.0.0@shop'}}]
"""


async def test_a_restart_keeps_a_flow_whose_catalog_is_away(start, tmp_path, monkeypatch, capfd):
    async def answer(_request):
        return web.Response(text="set: {logged: true}")

    authority = Authority(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*authority.issue("shop"))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    async with http_server(answer, tls=tls) as url:
        (start.files / "a.yaml").write_text(CALLS.replace("NAME", "a").replace("ENDPOINT", url))
        assert (await start()).out == "flow a: created\n"
        assert (await start()).out == "flow a: unchanged\n"
    file = f"{url}/functions/log/1.0.0/function.yaml"
    assert (await start()).out.startswith(f"flow a: kept as it is, as {file} can't be reached: ")
    assert start.webhooks == ["a"]
    (start.files / "b.yaml").write_text(CALLS.replace("NAME", "b").replace("ENDPOINT", url))
    with pytest.raises(StartRefusedError):
        await start()
    assert f"b.yaml:5: do[0].log.call: {file} can't be reached: " in capfd.readouterr().err
