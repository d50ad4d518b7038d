"""The lines that `flowhook dev` prints."""

from __future__ import annotations

import asyncio
from datetime import datetime
from types import SimpleNamespace

import pytest

from cli.development import execution_line, print_arrivals, request_line
from flowhook.model import Execution, Status
from flowhook.model.executions import ExecutionChange
from flowhook.model.rejections import ReceivedRequest, RequestOutcome

AT = 1_768_471_200_000
TIME = datetime.fromtimestamp(AT / 1000).strftime("%H:%M:%S")  # noqa: DTZ006 - the local time is what is printed


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (
            {"outcome": RequestOutcome.REFUSED, "status": 401, "reason": "SIGNATURE_MISMATCH", "detail": "of another"},
            "orders  refused    401  SIGNATURE_MISMATCH: of another",
        ),
        (
            {"outcome": RequestOutcome.REFUSED, "status": 404, "reason": "NOT_FOUND", "detail": "NOT_FOUND"},
            "orders  refused    404  NOT_FOUND",
        ),
        (
            {"outcome": RequestOutcome.DUPLICATE, "status": 202, "execution_id": "evt_1", "reason": "DUPLICATE"},
            "orders  duplicate  202  evt_1",
        ),
        (
            {"outcome": RequestOutcome.FILTERED, "callback": "decision", "detail": "a\x1b[31mb\n"},
            "orders/decision  filtered   a\N{REPLACEMENT CHARACTER}[31mb ",
        ),
    ],
)
def test_a_request_that_became_no_execution_has_a_line(request_, line):
    assert request_line(ReceivedRequest(time_ms=AT, flow_id="orders", **request_)) == f"{TIME}  {line}"


def test_an_execution_has_a_line_with_the_time_at_which_it_ended():
    execution = Execution("evt_1", "orders", 1, Status.COMPLETED, 1, AT - 3_600_000, AT)
    assert execution_line(execution).startswith(f"{TIME}  orders  completed")


async def test_how_many_changes_are_not_shown_is_said(capsys):
    execution = Execution("evt_1", "orders", 1, Status.COMPLETED, 1, AT, AT)

    class Watched:
        async def watch(self):
            yield None
            yield ExecutionChange(execution, missed=7)
            printing.cancel()

        async def requests_page(self, **_):
            await asyncio.Event().wait()

    client = SimpleNamespace(executions=Watched(), rejections=Watched())
    printing = asyncio.create_task(print_arrivals(client, lambda: None))
    with pytest.raises(asyncio.CancelledError):
        await printing
    missed, line = capsys.readouterr().out.splitlines()
    assert missed == "7 changes of executions are not shown: they came too fast"
    assert "completed" in line
