"""Each alert of the replicated log fires in a real Prometheus by its cause, and is over with it.

Rules are those of deploy/prometheus without their `for`, and with thresholds that are reached soon.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, closing

import apsw
import pytest
from support.commands import Up
from support.log_attackers import log_attacker
from support.nats_servers import nats_cluster
from support.patience import PATIENCE, wait_until
from support.prometheus import Prometheus

from router.storage.schema import BUSY_MS

THRESHOLDS = {"FlowhookSnapshotsFail": {"> 900": "> 1"}, "FlowhookStandbyLags": {"> 1000": "> 2"}}
FLOW = """document: {dsl: 1.0.3, namespace: default, name: orders, version: 1.0.0}
webhook: {auth: none}
do: [{keep: {set: {kept: true}}}]
"""
DISK_MEBIBYTES = 128  # the log may have 24, and is written twice
BODY_BYTES = 150_000


class Place:
    """Three NATS servers, the second one with a disk of its own, a cluster on them, and Prometheus that scrapes it."""

    def __init__(self, folder, ends):
        self.disk = folder / "nats" / "nats-2"
        self.disk.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEBIBYTES}m", "tmpfs", self.disk]
        self.is_mounted = not subprocess.run(mount, capture_output=True, check=False).returncode
        if self.is_mounted:
            ends.callback(subprocess.run, ["umount", "--lazy", self.disk], check=True)
        self.servers = ends.enter_context(nats_cluster(folder / "nats"))
        self.url = self.servers.url(prefix="ALERTS", max_bytes="24M")
        (folder / "orders.yaml").write_text(FLOW)
        variables = {"FLOWHOOK_STORAGE": self.url, "FLOWHOOK_SNAPSHOT_SECONDS": 1}
        options = ("--flows", folder / "orders.yaml", "--routers", "2", "--edges", "1", "--runners", "1")
        self.cluster = Up(folder / "data", *options, **variables)
        ends.callback(self.cluster.close)
        self.admin = self.cluster.where["admin_url"]
        target = self.admin.removeprefix("http://")
        # without a router, admin asks all of them in vain before it answers
        self.prometheus = Prometheus(folder, "up.yaml", [target], THRESHOLDS, scrape_seconds=5)
        ends.callback(self.prometheus.close)
        wait_until(lambda: self.prometheus.query("sum(flowhook_nats_server_up) == 3"), "all servers are known")

    def send(self, body=b"{}"):
        url = f"{self.cluster.where['http_url']}/hook/orders"
        with contextlib.suppress(urllib.error.HTTPError):  # 503: its senders send again
            urllib.request.urlopen(url, body, timeout=PATIENCE).close()

    def send_much(self):
        self.send(b'"%s"' % base64.b64encode(os.urandom(BODY_BYTES)))

    def readiness(self):
        try:
            with urllib.request.urlopen(f"{self.admin}/readyz", timeout=PATIENCE) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)

    def views(self):
        """Return the directory of each router's view, the owner's last."""
        shard = self.cluster.run("cluster", "status", "--json").rows[0]
        names = sorted((copy["router"] for copy in shard["copies"]), key=lambda name: name == shard["owner"])
        return [next((self.cluster.data_dir / name).rglob("view.db")).parent for name in names]

    def restart(self, name):
        self.servers[name].stop()
        self.servers.start()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with ExitStack() as ends:
        yield Place(tmp_path_factory.mktemp("log"), ends)


def test_a_nats_server_that_is_away(place):
    place.servers["nats-3"].kill()
    [alert] = place.prometheus.until_alert("FlowhookLogServerDown", place.send)
    assert alert["labels"]["server"] == "nats-3"
    place.servers.start()
    place.prometheus.until_no_alert("FlowhookLogServerDown")


def test_a_nats_server_whose_disk_is_full(place):
    if not place.is_mounted:
        pytest.skip("only root can mount a file system")
    filler = place.disk / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    [alert] = place.prometheus.until_alert("FlowhookLogServerDown", place.send)
    assert alert["labels"]["server"] == "nats-2"
    wait_until(lambda: "turned its storage" in str(place.readiness()["warnings"]), "/readyz says why")
    filler.unlink()
    place.restart("nats-2")
    place.prometheus.until_no_alert("FlowhookLogServerDown")


def test_two_of_three_nats_servers_that_are_away(place):
    for name in ("nats-2", "nats-3"):
        place.servers[name].kill()
    place.prometheus.until_alert("FlowhookLogUnavailable")
    named = "the replicated log (NATS) has no quorum: "
    wait_until(lambda: named in str(place.readiness()["reasons"]), "/readyz names NATS")
    assert {"nats-2", "nats-3"} <= set(str(place.readiness()).replace(":", " ").split())
    place.prometheus.until_alert("FlowhookLogUnavailable")  # also now that no router serves
    place.servers.start()
    place.prometheus.until_no_alert("FlowhookLogUnavailable")
    wait_until(lambda: place.readiness()["ready"], "a router serves again")


async def forge(place):
    async with log_attacker(place.servers["nats-1"], place.url) as attacker:
        await attacker.append(b"forged")


def test_somebody_who_writes_to_the_servers_of_the_log(place):
    [alert] = place.prometheus.until_alert("FlowhookLogForged", lambda: asyncio.run(forge(place)))
    assert alert["labels"]["kind"] == "record"


def test_a_standby_that_lags(place):
    standby, _ = place.views()
    with closing(apsw.Connection(str(standby / "view.db"))) as connection:
        connection.set_busy_timeout(int(PATIENCE * 1000))

        def delay():
            """Send events while nobody can write the view, for less than the time after which it is thrown away."""
            with connection:
                connection.execute("INSERT INTO counter VALUES ('delay', 1)")
                connection.execute("DELETE FROM counter WHERE name = 'delay'")
                until = time.monotonic() + BUSY_MS / 2000
                while time.monotonic() < until:
                    place.send()

        place.prometheus.until_alert("FlowhookStandbyLags", delay)
    place.prometheus.until_no_alert("FlowhookStandbyLags")


def test_snapshots_that_fail_until_the_log_is_almost_full(place):
    obstacles = [view / "snapshot" for view in place.views()]
    for each in obstacles:
        wait_until(lambda each=each: not each.exists(), "no snapshot is being made")
        each.touch()
    place.prometheus.until_alert("FlowhookSnapshotsFail", place.send)
    place.prometheus.until_alert("FlowhookLogFills", place.send_much)
    for each in obstacles:
        each.unlink()
    # The log is removed up to the older of two snapshots, and the second one is made when something has happened.
    place.prometheus.until_no_alert("FlowhookLogFills", place.send)
    place.prometheus.until_no_alert("FlowhookSnapshotsFail")
