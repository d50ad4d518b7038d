import asyncio

import pytest

from flowhook.model import ERROR_TYPE_BASE
from flowhook.process.settings import RunnerSettings
from flowhook.security.address_policy import AddressPolicy
from runner.components import Context, component
from runner.components.base import SharedResources
from runner.interpreter.effects import Perform
from runner.interpreter.errors import Kind
from runner.outbound.http_client import HttpClient
from runner.worker.effect_executor import EffectExecutor


@component("test.deadline")
async def deadline(context: Context) -> float:
    """Return the seconds that the call has."""
    return round(context.deadline - asyncio.get_running_loop().time())


@component("test.hang")
async def hang(context: Context) -> None:
    """Never end."""
    await asyncio.Event().wait()


async def no_secret(_name):
    raise AssertionError("no component here asks for a secret")


async def perform(function, limit):
    settings = RunnerSettings(http_timeout=1000)
    executor = EffectExecutor(
        {each.name: each for each in (deadline, hang)},
        HttpClient(address_policy=AddressPolicy.PUBLIC),
        settings,
        SharedResources(settings),
    )
    effect = Perform(key="/do/0/t#0", function=function, arguments={}, instance="/do/0/t", timeout=limit)
    return await executor.perform("evt_1", effect, no_secret)


@pytest.mark.parametrize(("limit", "seconds"), [(None, b"1000"), (60, b"60")])
async def test_a_call_has_the_time_of_its_task_or_else_that_of_the_settings(limit, seconds):
    assert (await perform("test.deadline", limit)).output == seconds


async def test_a_timeout_of_zero_is_one():
    async with asyncio.timeout(30):
        result = await perform("test.hang", 0)
    assert (result.error.type, result.error.instance) == (ERROR_TYPE_BASE + Kind.TIMEOUT, "/do/0/t")
