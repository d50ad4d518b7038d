"""The metrics of calls over gRPC, by method and status code."""

from __future__ import annotations

import re

import pytest
from support.routers import running_router

from flowhook.errors import NotFoundError
from router.calls.call_durations import MAX_MEASURED, CallDurations

COUNT = re.compile(
    rb'^rpc_server_call_duration_seconds_count.*rpc_method="(.+?)",rpc_status_code="(.+?)"\} (\S+)$', re.MULTILINE
)


async def test_calls_are_measured_by_method_and_status_code(tmp_path):
    async with running_router(tmp_path) as router, router.client() as client:
        for _ in range(2):
            with pytest.raises(NotFoundError):
                await client.flows.get("none")
        assert [each async for each in client.flows.list()] == []
        [process] = await client.cluster.processes()
    found = {(method, code): float(number) for method, code, number in COUNT.findall(process.metrics)}
    assert found.pop((b"flowhook.v1.FlowService/GetFlow", b"NOT_FOUND")) == 2
    assert found.pop((b"flowhook.v1.FlowService/ListFlows", b"OK")) == 1
    assert not found


def test_methods_beyond_a_limit_are_measured_together():
    durations = CallDurations()
    for number in range(100):
        durations._observe((f"Service/Method{number}", "OK"), 0.1)
    assert len(durations.durations) == MAX_MEASURED + 1
    assert durations.durations["_other", ""].count == 100 - MAX_MEASURED
