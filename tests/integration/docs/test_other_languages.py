"""The examples of docs/clients.md in other languages run, against a real router and a real runner.

Those for Node.js need `node`, `npm` and its registry. Where one of these is missing they are skipped, unless
`FLOWHOOK_TEST_NODE` is `required`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import pages
from support.patience import PATIENCE
from support.routers import running_router
from support.served import running_runner

PACKAGES = Path(__file__).parent / "node"
BLOCKS = [
    block for language in ("javascript", "bash") for block in pages.all_blocks(language) if block.page == "clients.md"
]


def blocks(language):
    return [block.text for block in BLOCKS if block.language == language]


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A folder with the packages that the examples import."""

    def lack(what):
        if os.environ.get("FLOWHOOK_TEST_NODE") == "required":
            pytest.fail(what)
        pytest.skip(what)

    if not (shutil.which("node") and shutil.which("npm")):
        lack("there is no node, or no npm")
    folder = tmp_path_factory.mktemp("node")
    for file in PACKAGES.iterdir():
        shutil.copy(file, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=90)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        lack(f"npm can't install the packages: {(error.stderr or b'').decode()[-500:]}")
    return folder


@pytest.fixture
async def program(tmp_path):
    """Run a program beside a router that has the flow `hello`, and return what it prints."""
    async with (
        running_router(tmp_path / "data") as router,
        router.client() as client,
        running_runner(router, "runner-1"),
    ):
        await client.flows.apply([(pages.ROOT / "examples/hello.yaml").read_bytes()])
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        reported = {
            "PATH": path,
            "FLOWHOOK_ROUTER": router.target,
            "FLOWHOOK_TOKEN": router.token(),
            "FLOWHOOK_PROTOS": str(pages.ROOT / "protos"),
        }

        async def run(*command, folder):
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=folder,
                env=os.environ | reported,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            async with asyncio.timeout(PATIENCE):
                output, _ = await process.communicate()
            assert process.returncode == 0, output.decode()
            return output.decode()

        yield run


async def test_the_examples_for_node_run(node, program):
    assert len(blocks("javascript")) == 1
    (node / "example.mjs").write_text(blocks("javascript")[0])
    first, *others = (await program("node", "example.mjs", folder=node)).splitlines()
    assert first.startswith("evt_")
    assert others == ["FLOW_NOT_FOUND", "200 Hello, Ada!", "true FLOW_NOT_FOUND"]


async def test_those_for_buf_run_without_protos(program, tmp_path):
    [command] = [text for text in blocks("bash") if "buf curl" in text]
    assert '"executionId": "evt_' in await program("bash", "-euc", command, folder=tmp_path)
