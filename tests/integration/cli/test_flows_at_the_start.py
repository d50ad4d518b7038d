"""The flows of `up --flows`: applied by the process that the supervisor starts, before a real router."""

from __future__ import annotations

import os
import sys

import pytest
from support.routers import flow, running_router

from cli.supervisor.cluster_spec import Command
from cli.supervisor.initial_flows import apply_flows

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
        run.webhooks = await apply_flows(command, settings, print_line=print)
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
