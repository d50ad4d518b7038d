"""The examples of docs/clients.md run, against a real router and a real runner."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from support import pages
from support.patience import PATIENCE
from support.routers import running_router

from flowhook.model import Status
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RunnerSettings
from runner import app

PRICE = b"""
document: {dsl: 1.0.3, namespace: default, name: price, version: 1.0.0}
do:
  - limit: {raise: {error: {type: https://example.com/errors/too-many, status: 422, title: Too many}}}
"""

EXAMPLES = [block for block in pages.all_blocks("python") if block.page == "clients.md"]


@asynccontextmanager
async def running_runner(router):
    settings = RunnerSettings(data_dir=router.settings.data_dir, router=router.target, drain_seconds=1.0)
    lifecycle = ProcessState(name="runner-1", role="runner")
    serving = asyncio.create_task(app.serve(settings, lifecycle))
    try:
        async with asyncio.timeout(PATIENCE):
            await lifecycle.ready.wait()
        yield
    finally:
        lifecycle.stop.set()
        await serving


async def test_the_examples_run(tmp_path, monkeypatch):
    assert len(EXAMPLES) >= 5
    hello = (pages.ROOT / "examples/hello.yaml").read_bytes()
    async with running_router(tmp_path / "data") as router, router.client() as client, running_runner(router):
        await client.flows.apply([hello, PRICE])
        failed = await client.ingest("price", {})
        await _fault(client, failed)
        await _fault(client, (await client.executions.replay(failed)).id)
        monkeypatch.setenv("FLOWHOOK_ROUTER", router.target)
        monkeypatch.setenv("FLOWHOOK_TOKEN", router.token())
        for block in EXAMPLES:
            code = compile(block.text, str(block), "exec")
            await asyncio.to_thread(exec, code, {"__name__": "__main__"})


async def _fault(client, execution_id):
    async with asyncio.timeout(PATIENCE):
        while (await client.executions.get(execution_id)).execution.status is not Status.FAULTED:
            await asyncio.sleep(0.02)


def test_the_page_names_every_class_of_errors():
    from flowhook import errors  # noqa: PLC0415 - what the page is compared with
    from flowhook.wire.status import CODES  # noqa: PLC0415 - the same

    rows = {row[0].strip("`"): row[3].strip("`") for row in pages.rows(pages.text_of("clients.md")) if len(row) == 4}

    for kind, code in CODES:
        assert rows.get(kind.__name__) == code.name
    assert errors.InvalidFlowError.__name__ in pages.text_of("clients.md")
