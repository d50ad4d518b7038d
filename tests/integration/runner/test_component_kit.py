"""The kit for authors of components: used from outside as docs/testing-components.md shows it, and its own rules."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.patience import PATIENCE

from flowhook.process.settings import RunnerSettings
from runner.components import Context, Kind, TaskFault, component, fault
from runner.components.testing import Answer, call, context, receiver

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "testing-components.md"
SECRET = {"token": b"t0ps3cret-token"}


@component("kit.echo")
async def echo(*, context: Context, value: object = None):
    return value


@component("kit.leak")
async def leak(how: str, *, context: Context):
    token = (await context.secret("token")).decode()
    if how == "error":
        raise fault(Kind.COMMUNICATION, f"refused {token}")
    return {"request": {"authorization": f"Bearer {token}"}}


@component("kit.get")
async def get(url: str, *, context: Context):
    return (await context.http.request("GET", url)).status


def test_the_example_of_the_page_works_in_a_project_of_its_own(tmp_path):
    module, tests = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "acme_flowhook.py").write_text(module)
    (tmp_path / "test_acme_flowhook.py").write_text(tests)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nasyncio_mode = "auto"\nasyncio_default_fixture_loop_scope = "function"\n'
        'pythonpath = ["."]\n'
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("FLOWHOOK_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-W", "error"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


async def test_the_result_is_what_the_flow_would_see():
    assert await call(echo, {"value": {"a": (1, 2)}}) == {"a": [1, 2]}


@pytest.mark.parametrize("how", ["result", "error"])
async def test_a_secret_in_the_result_or_the_error_fails_the_test(how):
    with pytest.raises(AssertionError, match="the value of the secret token"):
        await call(leak, {"how": how}, secrets=SECRET)


async def test_a_secret_that_is_not_given_is_an_authorization_error():
    with pytest.raises(TaskFault) as problem:
        await call(leak, {"how": "result"})
    assert problem.value.error.status == 403


async def test_a_result_that_is_too_large_is_a_runtime_error():
    with pytest.raises(TaskFault) as problem:
        await call(echo, {"value": "x" * (1 << 20)})
    assert problem.value.error.type.endswith("/errors/runtime")


async def test_the_deadline_is_retained():
    started = asyncio.Event()

    @component("kit.slow")
    async def slow(*, context: Context):
        started.set()
        await asyncio.Event().wait()

    with pytest.raises(TaskFault) as problem:
        await call(slow, {}, seconds=0.05)
    assert started.is_set()
    assert problem.value.error.type.endswith("/errors/timeout")


async def test_a_defect_is_raised_as_it_is():
    @component("kit.broken")
    async def broken(*, context: Context):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await call(broken, {})


async def test_the_address_policy_is_that_of_the_settings():
    async with receiver() as server:
        assert await call(get, {"url": server.url}) == 200
        with pytest.raises(TaskFault) as problem:
            await call(get, {"url": server.url}, settings=RunnerSettings())
    assert "not allowed" in problem.value.error.detail
    assert len(server.received) == 1


async def test_answers_are_given_in_order_and_the_last_one_again():
    async with receiver(Answer(503), Answer(200)) as server:
        assert [await call(get, {"url": server.url}) for _ in range(3)] == [503, 200, 200]


async def test_the_context_alone_can_be_had():
    async with context(secrets=SECRET, idempotency_key="k", seconds=5) as offered:
        assert await offered.secret("token") == b"t0ps3cret-token"
        assert offered.idempotency_key == "k"
        assert 0 < offered.deadline - asyncio.get_running_loop().time() <= 5


class Pool:
    """Notes what becomes of it."""

    def __init__(self, settings):
        self.settings = settings
        self.closed = False

    async def close(self):
        self.closed = True


async def test_what_calls_share_is_made_once_with_the_settings_and_closed_at_the_end():
    settings = RunnerSettings(http_timeout=3.0)
    async with context(settings=settings) as offered:
        pool = offered.shared.get(Pool)
        assert offered.shared.get(Pool) is pool
        assert (pool.settings, pool.closed) == (settings, False)
    assert pool.closed
