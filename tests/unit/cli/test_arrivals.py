"""The lines that `flowhook dev` prints."""

from __future__ import annotations

from datetime import datetime

import pytest

from cli.development.arrivals import request_line
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
