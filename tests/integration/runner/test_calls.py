"""What surrounds a component: its arguments, its bounds, and its errors."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from support.calls import kind

from runner.components import Context, component
from runner.interpreter.errors import Kind, fault


async def test_a_component_of_ones_own_gets_typed_keywords_and_the_context(call):
    @component("add")
    async def add(left: int, right: int = 1, *, context: Context) -> dict[str, object]:
        return {"sum": left + right, "key": context.idempotency_key}

    assert await call("add", extra=[add], left=2) == {"sum": 3, "key": "evt_1:/do/0/ask#0"}
    assert kind(await call("add", extra=[add], left="x")) == ("configuration", 400)
    assert kind(await call("add", extra=[add], left=1, more=2)) == ("configuration", 400)


async def test_a_component_that_breaks_is_a_runtime_error_without_internals(call, caplog):
    @component("broken")
    async def broken(context: Context) -> None:
        raise KeyError("internal-secret")

    error = await call("broken", extra=[broken])
    assert kind(error) == ("runtime", 500)
    assert "internal-secret" not in error.detail


async def test_what_a_component_says_shows_no_secret_that_it_requested(call):
    @component("telling")
    async def telling(context: Context) -> None:
        key = orjson.loads(await context.secret("mine"))["key"]
        raise fault(Kind.AUTHENTICATION, f"the server refused {key}")

    error = await call("telling", extra=[telling], secrets={"mine": b'{"key":"k3y-of-mine"}'})
    assert error.detail == "the server refused …"


@pytest.mark.parametrize("problem", [SystemExit(1), asyncio.CancelledError()])
async def test_a_component_that_gives_up_on_everything_ends_its_own_call_alone(call, problem):
    @component("quitting")
    async def quitting(context: Context) -> None:
        raise problem

    assert kind(await call("quitting", extra=[quitting])) == ("runtime", 500)


async def test_how_long_to_wait_before_another_try_is_reported_beside_the_error(perform):
    @component("test.busy")
    async def busy(*, context: Context):
        """Has no time."""
        raise fault(Kind.COMMUNICATION, "busy", status=503, retry_after_ms=7_000)

    result = await perform("test.busy", extra=[busy], effect={"secrets": {"token": "t0ps3cret"}})
    assert (result.error.status, result.error.instance, result.retry_after_ms) == (503, "/do/0/ask", 7_000)


async def test_a_component_that_takes_too_long_is_a_timeout_and_an_unknown_one_a_configuration_error(call):
    @component("slow")
    async def slow(context: Context) -> None:
        await asyncio.Event().wait()

    assert kind(await call("slow", extra=[slow], seconds=0.05)) == ("timeout", 408)
    assert kind(await call("nowhere")) == ("configuration", 400)


async def test_a_result_that_is_too_large_is_a_runtime_error(call):
    @component("large")
    async def large(context: Context) -> str:
        return "x" * (1024 * 1024)

    assert kind(await call("large", extra=[large])) == ("runtime", 500)
