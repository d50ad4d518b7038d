"""What a process says of a certificate that it shows, once that has expired."""

from __future__ import annotations

import asyncio
import time

import structlog
from support.certificates import self_signed
from support.patience import until

from flowhook.process.process_state import ProcessState
from flowhook.process.server_certificates import load_certificates, watch_expiry

HOUR = 3600


async def test_a_certificate_that_has_expired_is_an_error_and_a_warning_until_it_is_replaced(tmp_path):
    certificate, key = self_signed(tmp_path, "edge.example.com", seconds=-1)
    state = ProcessState(name="edge-1", role="edge")
    with structlog.testing.capture_logs() as logs:
        files = load_certificates(certificate, key)
        watching = asyncio.create_task(watch_expiry(state))
        await until(lambda: "certificate" in state.warnings)
        assert str(certificate) in state.warnings["certificate"]
        assert [(each["log_level"], each.get("files")) for each in logs] == [("error", [str(certificate)])]
        self_signed(tmp_path, "edge.example.com")
        assert files.refresh()
        await until(lambda: not state.warnings)
        watching.cancel()


async def test_a_certificate_that_expires_while_it_is_shown_is_said_at_once(tmp_path):
    files = load_certificates(*self_signed(tmp_path, "edge.example.com", seconds=HOUR))
    state = ProcessState(name="edge-1", role="edge")
    passed = 0
    watching = asyncio.create_task(watch_expiry(state, now=lambda: time.time() + passed))
    await asyncio.sleep(0)
    assert not state.warnings
    passed = HOUR + 1
    await until(lambda: "certificate" in state.warnings)
    watching.cancel()
    del files  # which is shown until here
