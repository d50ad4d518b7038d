"""`flowhook dev`: follows flow files, prints what arrives, and ends with Ctrl-C."""

from __future__ import annotations

import http.client
import os
import re
import socket
from contextlib import closing

import pytest
from support.command_flows import HELLO, SIGNED
from support.commands import PATIENCE, Up, flowhook, flowhook_process, send_event
from support.patience import wait_until


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("dev")


@pytest.fixture(scope="module")
def dev(folder):
    (folder / "package.json").write_text('{"name": "something else"}')
    (folder / "hello.yaml").write_text(HELLO)
    dev = Up(folder / ".flowhook", folder, command="dev")
    yield dev
    dev.close()


def put(dev, path):
    address = dev.where["http_url"].removeprefix("http://")
    with closing(http.client.HTTPConnection(address)) as connection:
        connection.request("PUT", path, b"{}")
        return connection.getresponse().status


def test_it_applies_flows_and_leaves_other_files_alone(dev, folder):
    where = dev.where
    assert f"left alone, without the key `document` of a flow: {folder}/package.json" in dev.lines
    assert "flow hello: created" in dev.lines
    assert f"webhook  {where['http_url']}/hook/hello" in dev.lines
    assert any(line.startswith(f"console  {where['admin_url']}/login#") for line in dev.lines)


def test_it_prints_what_arrives_and_what_becomes_of_it(dev):
    execution_id = send_event(dev, "hello", "1")
    time, *line, took, unit = dev.next_line().split()
    assert line == ["hello", "completed", execution_id]
    assert (time.count(":"), took.isdigit(), unit) == (2, True, "ms")
    assert put(dev, "/hook/hello") == 405
    assert dev.next_line().split()[1:] == ["hello", "refused", "405", "METHOD_NOT_ALLOWED"]


def test_it_applies_what_changes_and_keeps_what_is_faulty_or_deleted(dev, folder):
    (folder / "signed.yaml").write_text(SIGNED)
    assert dev.next_line() == "flow signed: created"
    assert dev.next_line().startswith("secrets that are not set yet: ")
    assert dev.next_line() == f"webhook  {dev.where['http_url']}/hook/signed"
    hello = folder / "hello.yaml"
    hello.write_text(HELLO + "  - wrong: {sett: {a: 1}}\n")
    assert dev.next_line() == f"{hello} is not applied; flow hello stays as it was"
    hello.write_text(HELLO + "  - right: {set: {a: 1}}\n")
    assert dev.next_line() == "flow hello: updated"
    moved = folder / "moved.yaml"
    hello.rename(moved)
    assert dev.next_line() == "flow hello: unchanged"
    moved.unlink()
    assert dev.next_line() == f"{moved} is gone, flow hello is not: `flowhook flows delete hello` deletes it"
    assert send_event(dev, "hello", "2") in dev.next_line()


def test_two_files_of_one_flow_are_reported_until_one_is_gone(dev, folder):
    (folder / "first.yaml").write_text(HELLO.replace("hello", "twice"))
    assert dev.next_line() == "flow twice: created"
    assert dev.next_line() == f"webhook  {dev.where['http_url']}/hook/twice"
    second = folder / "second.yaml"
    second.write_text(HELLO.replace("hello", "twice"))
    assert dev.next_line() == f"{second} is not applied"
    (folder / "first.yaml").unlink()
    assert dev.next_line() == "flow twice: unchanged"


def test_a_catalog_that_does_not_answer_keeps_no_other_flow_waiting(dev, folder):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        head = HELLO.partition("do:")[0].replace("hello", "away")
        use = f"use: {{catalogs: {{shop: {{endpoint: 'https://127.0.0.1:{port}'}}}}}}"
        (folder / "away.yaml").write_text(f"{head}{use}\ndo: [{{log: {{call: 'log:1.0.0@shop'}}}}]\n")
        assert dev.next_line() == f"{folder}/away.yaml is not applied"
        said = next(line for line in dev.process.stderr if "away.yaml" in line)
        assert said == f"{folder}/away.yaml: its catalogs have not answered yet\n"
        (folder / "beside.yaml").write_text(HELLO.replace("hello", "beside"))
        others = iter(dev.next_line, "flow beside: created")
        assert {*others} <= {f"{folder}/away.yaml is not applied"}  # again, if it is not reached meanwhile
        assert dev.next_line() == f"webhook  {dev.where['http_url']}/hook/beside"
        (folder / "away.yaml").unlink()


def test_commands_in_its_directory_find_it(dev, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert "hello" in flowhook("flows", "list").out
    assert flowhook("flows", "list", "--data-dir", folder / "data").code == 1


def test_what_is_wrong_is_said_before_anything_starts(dev, folder):
    for arguments, message in [
        ((folder / "nowhere",), "there is no such file or directory"),
        ((folder,), "a cluster is running on"),
    ]:
        result = flowhook("dev", "--data-dir", folder / ".flowhook", *arguments)
        assert (result.code, result.out) == (1, "")
        assert message in result.err
    port = str(dev.where["http_port"])
    result = flowhook("dev", "--data-dir", folder / "other", "--http-port", port, folder)
    assert f"port {port} on 127.0.0.1 is in use" in result.err


@pytest.fixture
def tunnelled(tmp_path, monkeypatch, unused_tcp_port):
    """`dev` with a tunnel, made by a program that prints what cloudflared prints, and ends on request."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program = tmp_path / "cloudflared"
    program.write_text(
        "#!/bin/sh\necho 'INF |  https://shy-dog-42.trycloudflare.com  |' >&2\n"
        f"until [ -e {tmp_path}/end ]; do sleep 0.1; done\necho 'ERR gone' >&2\nexit 4\n"
    )
    program.chmod(0o755)
    flows = tmp_path / "flows"
    flows.mkdir()
    (flows / "texts.yaml").write_text(HELLO.replace("hello", "texts").replace("none", "{twilio: {secret: tw}}"))
    options = ("--http-port", unused_tcp_port, "--tunnel", "cloudflared", flows)
    dev = Up(tmp_path / "data", *options, command="dev")
    yield dev
    dev.close()


def test_a_tunnel_is_the_public_url_which_signatures_cover_until_it_ends(tunnelled, tmp_path):
    (told,) = (line for line in tunnelled.lines if line.startswith("tunnel "))
    assert told.startswith("tunnel   https://shy-dog-42.trycloudflare.com leads to webhooks only")
    assert "webhook  https://shy-dog-42.trycloudflare.com/hook/texts" in tunnelled.lines
    assert any(line.startswith("admin    http://127.0.0.1:") for line in tunnelled.lines)
    tunnelled.run("secrets", "set", "tw", "--value", "0123456789abcdef0123456789abcdef")
    sent = tunnelled.run("trigger", "twilio", "--json")
    assert sent.code == 0, sent
    assert sent.rows[0]["execution"] in tunnelled.next_line()
    (tmp_path / "end").touch()
    assert tunnelled.next_line() == "draining; once more to stop at once"
    _, err = tunnelled.process.communicate(timeout=PATIENCE)
    said = "ended with exit code 4; its last lines:\n  INF |  https://shy-dog-42.trycloudflare.com  |\n  ERR gone\n"
    assert (tunnelled.process.returncode, err) == (1, f"flowhook: the tunnel, cloudflared, {said}")


def test_a_tunnel_that_can_not_be_made_starts_nothing(tmp_path, unused_tcp_port):
    options = ("--data-dir", tmp_path / "data", "--http-port", unused_tcp_port, "--admin-port", 0, "--grpc-port", 0)
    failed = flowhook("dev", *options, "--tunnel", "false", tmp_path)
    assert (failed.code, failed.out) == (1, "")
    assert "the tunnel, false, ended with exit code 1" in failed.err
    assert "needs an --http-port" in flowhook("dev", *options, "--http-port", 0, "--tunnel", "false", tmp_path).err


def test_a_start_that_fails_says_why(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "flowhook.db").write_bytes(b"not a database" * 1000)
    ports = [word for name in ("http", "admin", "grpc") for word in (f"--{name}-port", 0)]
    failed = flowhook_process("dev", "--data-dir", tmp_path / "data", *ports, tmp_path)
    assert failed.code == 1
    assert "flowhook: router-1 can't start, see above" in failed.err


def test_it_opens_the_console_logged_in_and_ctrl_c_drains_it(tmp_path):
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/opened\n')
    browser.chmod(0o755)
    with closing(Up(tmp_path / "data", tmp_path, "--open", command="dev", BROWSER=f"{browser} %s")) as dev:
        wait_until((tmp_path / "opened").exists, "the browser is started")
        page = tmp_path / "data" / "run" / "login.html"
        assert (tmp_path / "opened").read_text().strip() == page.as_uri()  # all users of a machine see arguments
        assert page.stat().st_mode & 0o777 == 0o600
        (link,) = re.findall(r'url=([^"]+)', page.read_text())
        assert link.startswith(f"{dev.where['admin_url']}/login#")
        assert f"console  {link} (logs in once, within an hour)" in dev.lines
        assert f"no flows in {tmp_path}: `flowhook new NAME --provider stripe` writes one" in dev.lines
        code, lines, err = dev.stop()
        assert code == 0
        assert lines[0] == "draining; once more to stop at once"
        assert not list((tmp_path / "data" / "run").glob("*.pid"))
        assert not page.exists()
        assert err == ""
