"""What the NATS servers of a local cluster are configured with."""

from __future__ import annotations

import json
import os
import socket
import stat
from contextlib import closing

import pytest

from cli.supervisor.cluster_spec import find_nats_server
from cli.supervisor.nats_servers import NAMES, NatsServers
from router.storage.commit_log.jetstream.url import parse_url


def ports(data_dir):
    """Return the ports of servers that were just prepared, which are then free again."""
    with closing(NatsServers.prepare(data_dir)) as servers:
        return [port for name in NAMES for port in servers.ports[name]]


@pytest.fixture
def servers(tmp_path):
    with closing(NatsServers.prepare(tmp_path)) as servers:
        yield servers


def configuration(data_dir, name):
    return json.loads((data_dir / name / "nats.conf").read_text())


def test_ports_and_password_are_the_same_from_start_to_start(tmp_path):
    first = ports(tmp_path)
    before = [configuration(tmp_path, name) for name in NAMES]

    assert ports(tmp_path) == first
    assert [configuration(tmp_path, name) for name in NAMES] == before
    assert len(set(first)) == 9
    assert all(20_000 <= port < 30_000 for port in first)


def test_a_port_that_another_process_listens_on_is_replaced_and_the_others_stay(tmp_path, servers):
    first = [port for name in NAMES for port in servers.ports[name]]  # bound all the time, so that nobody takes them
    with socket.create_server(("127.0.0.1", first[4])):
        second = ports(tmp_path)

    assert second[4] != first[4]
    assert second[:4] + second[5:] == first[:4] + first[5:]
    assert configuration(tmp_path, "nats-2")["cluster"]["listen"] == f"127.0.0.1:{second[4]}"
    assert f":{second[4]}" in configuration(tmp_path, "nats-1")["cluster"]["routes"][0]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"password": "x", "ports": [99999999999, -1, "a"]}', b'{"ports": {}}']
)
def test_a_damaged_file_of_ports_is_replaced(tmp_path, content):
    (tmp_path / "nats.json").write_bytes(content)

    assert len(set(ports(tmp_path))) == 9
    assert ports(tmp_path) == json.loads((tmp_path / "nats.json").read_text())["ports"]


def test_ports_that_are_the_same_are_told_apart(tmp_path):
    (tmp_path / "nats.json").write_text('{"password": "x", "ports": [20001, 20001]}')

    assert len(set(ports(tmp_path))) == 9


def test_while_the_cluster_runs_its_ports_go_to_nobody_but_who_asks_for_them(servers):
    port = servers.ports["nats-1"].client
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)):  # as a server does: with SO_REUSEADDR
        pass


def test_servers_sync_each_write_and_listen_on_this_machine_only(tmp_path):
    ports(tmp_path)
    for name in NAMES:
        found = configuration(tmp_path, name)
        assert found["server_name"] == name
        assert found["jetstream"] == {"store_dir": str(tmp_path / name), "sync_interval": "always"}
        listening = [found["listen"], found["http"], found["cluster"]["listen"]]
        assert all(each.startswith("127.0.0.1:") for each in listening)


def test_nobody_connects_without_the_password_which_is_in_private_files_only(servers, tmp_path):
    for name in NAMES:
        found = configuration(tmp_path, name)
        assert found["authorization"] == {"user": "flowhook", "password": servers.password}
        assert found["cluster"]["authorization"] == found["authorization"]
    files = [tmp_path / "nats.json", *(tmp_path / name / "nats.conf" for name in NAMES)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in NAMES} == {0o700}
    assert len(servers.password) == 48


def test_routers_connect_to_all_servers_and_can_ask_all_how_they_write(servers):
    clients, monitors = (
        ",".join(f"127.0.0.1:{getattr(servers.ports[name], purpose)}" for name in NAMES)
        for purpose in ("client", "monitor")
    )
    url = f"nats://flowhook:{servers.password}@{clients}?replicas=3&monitor={monitors}"
    assert servers.storage() == url
    assert servers.storage("max_bytes=512M") == f"{url}&max_bytes=512M"
    assert parse_url(servers.storage()).monitors == tuple(monitors.split(","))


def test_on_few_cores_servers_run_on_one_thread_each_unless_an_operator_says_otherwise(servers):
    default = "1" if os.cpu_count() < 6 else None
    for given, found in (({}, default), ({"GOMAXPROCS": "7"}, "7")):
        environments = [program.command.environment for program in servers.programs(given)]
        assert [each.get("GOMAXPROCS") for each in environments] == [found] * 3


def test_the_server_beside_python_goes_before_that_on_the_path(monkeypatch, tmp_path):
    for folder in ("beside", "path"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "nats-server").touch(mode=0o700)
    monkeypatch.setattr("sys.executable", str(tmp_path / "beside" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))

    assert find_nats_server() == str(tmp_path / "beside" / "nats-server")
    (tmp_path / "beside" / "nats-server").unlink()
    assert find_nats_server() == str(tmp_path / "path" / "nats-server")
