"""Why a process can't start is in its log, as all else; a full disk is named, whatever failed because of it."""

from __future__ import annotations

import asyncio
import json
import subprocess

import pytest
from support.commands import flowhook, flowhook_process
from support.routers import running_router

ROLES = ("edge", "router", "runner", "admin")
PORTS = ("--http-port", "0", "--admin-port", "0", "--grpc-port", "0")


def reported(result):
    """Return the last line on stderr, which is JSON."""
    return json.loads(result.err.splitlines()[-1])


@pytest.fixture
def full_disk(tmp_path):
    """A file system that `fill` leaves no room on."""
    directory = tmp_path / "full"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", directory]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a file system")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def fill(directory):
    with (directory / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


@pytest.mark.parametrize("role", ROLES)
def test_an_invalid_setting_is_in_the_log(role):
    result = flowhook_process(role, FLOWHOOK_HEALTH_PORT="none")
    line = reported(result)
    assert result.code == 2
    assert (line["event"], line["level"], line["process"]) == ("can't run", "critical", role)
    assert (line["reason"], line["cause"].partition(":")[0]) == ("SETTING_INVALID", "FLOWHOOK_HEALTH_PORT")


@pytest.mark.parametrize("role", ["edge", "runner", "admin"])
def test_what_a_process_lacks_is_in_the_log(role, tmp_path):
    result = flowhook_process(role, "--data-dir", tmp_path, "--process-name", "p-1")
    line = reported(result)
    assert (result.code, line["process"], line["reason"]) == (1, "p-1", "TOKEN_MISSING")
    assert "set FLOWHOOK_TOKEN" in line["cause"]


def test_up_writes_json_if_it_is_told_to_and_lines_for_people_else(tmp_path):
    occupied = tmp_path / "file"
    occupied.touch()
    people = flowhook("up", *PORTS, "--data-dir", occupied)
    assert people.code == 1
    assert people.err.startswith("flowhook: can't use the data directory")
    line = reported(flowhook("up", *PORTS, "--data-dir", occupied, FLOWHOOK_LOG_FORMAT="json"))
    assert line["process"] == "up"
    assert line["cause"] == people.err.removeprefix("flowhook: ").strip()


def test_a_password_in_an_argument_is_refused_and_not_repeated(tmp_path):
    url = "nats://flowhook:a-secret@127.0.0.1:4222"
    for command in (("up", *PORTS), ("router", "--grpc-port", "0")):
        result = flowhook_process(*command, "--data-dir", tmp_path, "--storage", url)
        assert result.code == 2
        assert "set FLOWHOOK_STORAGE instead, or FLOWHOOK_STORAGE_FILE" in result.err
        assert "a-secret" not in result.err


@pytest.mark.parametrize("used", [False, True])
async def test_a_router_on_a_full_disk_says_so(full_disk, used):
    data = full_disk / "data"
    if used:
        async with running_router(data):
            pass
    fill(full_disk)
    router = ("router", "--grpc-port", "0", "--data-dir", data, "--process-name", "r-1")
    line = reported(await asyncio.to_thread(flowhook_process, *router))
    assert (line["event"], line["reason"], line["process"]) == ("can't run", "STORAGE_FULL", "r-1")
    assert line["cause"].startswith(f"disk full: {data} has 0.0 MiB free; make room, and start it again; ")
