"""A process notices that its installation was replaced."""

from __future__ import annotations

import asyncio
import sys

import pytest
import structlog

from flowhook.errors import ExhaustedError
from flowhook.process import installation
from flowhook.process.installation import import_late, was_replaced, watch_installation
from flowhook.process.process_state import ProcessState
from flowhook.sandbox.pool import ProcessPool
from flowhook.sharing.table import OffloadLimits


def test_this_one_was_not():
    assert not was_replaced()


@pytest.mark.parametrize("change", ["another file", "the same file, written anew", "none"])
def test_a_file_that_is_another_one_or_gone_is_noticed(tmp_path, change):
    file, new = tmp_path / "code.py", tmp_path / "new.py"
    file.write_text("x = 1\n")
    before = installation._identify([file])
    assert installation._identify([file]) == before
    if change == "none":
        file.unlink()
    elif change == "another file":
        new.write_text("x = 1\n")
        new.replace(file)
    else:
        file.write_text("x = 1 + 1\n")
    assert installation._identify([file]) != before


async def test_it_is_said_once_and_shown_from_then_on():
    answers = [False, False, True]
    state = ProcessState(name="edge-1", role="edge")
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(60):
            await watch_installation(state, replaced=lambda: answers.pop(0), seconds=0.0)
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert state.warnings == {"installation": "the installation was replaced while this process runs: restart it"}


def test_a_module_that_is_not_there_does_not_keep_the_others_from_being_imported():
    sys.modules.pop("this", None)
    with structlog.testing.capture_logs() as logs:
        import_late(["there.is.no.such.module", "colorsys"])
    assert "colorsys" in sys.modules
    assert [entry["module"] for entry in logs] == ["there.is.no.such.module"]


async def test_a_process_that_can_not_be_started_any_more_is_not_waited_for():
    async def fail():
        raise OSError("no such module")

    def check():
        raise ExhaustedError("restart it", reason="INSTALLATION_REPLACED")

    pool = ProcessPool(fail, "tests", OffloadLimits().processes, retry_seconds=3600.0, check=check)
    with pytest.raises(ExhaustedError) as caught:
        async with pool.process("key"):
            pass
    assert caught.value.reason == "INSTALLATION_REPLACED"
    await pool.aclose()
