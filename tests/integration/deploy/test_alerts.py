"""Each alert fires in a real Prometheus by its cause, and the runbook's commands then print what it says.

Rules are those of deploy/prometheus without their `for`, and with an age of the queue that is reached soon. promtool
judges what that leaves out, with the tests in alert_rules.yaml.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from support import deploy_files, monitoring, pages, transcripts
from support.certificates import self_signed
from support.commands import Up, clean_environment
from support.patience import PATIENCE, wait_until
from support.prometheus import Prometheus, promtool
from support.router_processes import shifted_clock

from harness import dashboards
from router.storage.backups.targets import file_name, locked_directory

RUNBOOK = pages.DOCS / "runbook.md"
THRESHOLDS = {"FlowhookQueueOld": {"> 300": "> 5"}}
RULE_TESTS = Path(__file__).parent / "alert_rules.yaml"
NOT_HERE = {
    "flowhook_certificate_expiry_timestamp_seconds",
    "flowhook_events_filtered_total",
    "flowhook_nats_server_up",
    "flowhook_router_log_bytes",
    "flowhook_router_snapshots_failing_seconds",
    "flowhook_snapshot_age_seconds",
    "flowhook_standby_lag_records",
    "flowhook_token_expiry_timestamp_seconds",
}
"""Metrics of what the cluster does not have: a replicated log, TLS, filters, and at the end tokens that expire."""

DISK_BYTES = 256 << 20
NOBODY = "http://127.0.0.1:9"
HEAD = "document: {{dsl: 1.0.3, namespace: default, name: {}, version: 1.0.0}}\n"
KEEPS = "do: [{keep: {set: {kept: true}}}]\n"
FLOWS = {
    "orders": f"webhook: {{auth: none}}\n{KEEPS}",
    "invoices": """webhook: {auth: none}
do:
  - book:
      raise: {error: {type: https://example.com/errors/account, status: 400, title: no such account}}
""",
    "payments": f"webhook: {{auth: {{stripe: {{secret: stripe-webhook}}}}}}\n{KEEPS}",
    "hourly-report": f"webhook: {{auth: none, expect: {{every: PT5S}}}}\n{KEEPS}",
    "mirrors": """schedule: {on: {one: {with: {type: com.example.mirrored}}}}
do: [{mirror: {set: {characters: '${ $secrets["mirror-token"] | length }'}}}]
use: {secrets: [mirror-token]}
""",
    "publisher": """webhook: {auth: none}
do: [{publish: {emit: {event: {with: {source: https://example.com, type: com.example.mirrored}}}}}]
""",
    "shipping": f"""webhook: {{auth: none}}
execution: {{outage: {{failures: 1, probe: PT5M}}}}
do: [{{ship: {{call: http, with: {{method: post, endpoint: {NOBODY}}}}}}}]
""",
}


def test_each_rule_fires_when_it_should_and_only_then():
    promtool("test", "rules", RULE_TESTS)
    [document] = deploy_files.documents(RULE_TESTS)
    judged = {
        (case["alertname"], "exp_alerts" in case) for test in document["tests"] for case in test["alert_rule_test"]
    }

    assert judged == {(rule["alert"], fires) for rule in monitoring.rules() for fires in (True, False)}


@pytest.mark.parametrize("path", sorted(monitoring.PROMETHEUS.glob("*.yaml")), ids=lambda path: path.name)
def test_promtool_finds_no_fault(path):
    promtool("check", "rules" if path.name == "alerts.yaml" else "config", path)


class SmallDisk:
    """A file system of its own for a directory, where this process may mount one."""

    def __init__(self, file, directory):
        directory.mkdir()
        self._directory = directory
        with file.open("wb") as disk:
            disk.truncate(DISK_BYTES)
        commands = ["mkfs.ext4", "-q", file], ["mount", "-o", "loop", file, directory]
        self.is_mounted = all(
            not subprocess.run(each, capture_output=True, check=False).returncode for each in commands
        )

    def need(self):
        if not self.is_mounted:
            pytest.skip("only root can mount a file system")

    def stand_still(self):
        """Let writes wait for half a second."""
        subprocess.run(["fsfreeze", "--freeze", self._directory], check=True)
        try:
            time.sleep(0.5)
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", self._directory], check=True)

    @contextmanager
    def filled(self):
        """Leave a twentieth of it free."""
        filler = self._directory / "filler"
        room = os.statvfs(self._directory)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, (room.f_bavail - room.f_blocks // 20) * room.f_frsize)
        yield
        filler.unlink()

    def close(self):
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", self._directory], check=True)


class Place:
    """A cluster with the flows, an edge and a runner that its supervisor does not have, and Prometheus for it."""

    def __init__(self, folder, ends):
        """`ends` ends what was started, also if the rest does not start."""
        for name, text in FLOWS.items():
            (folder / f"{name}.yaml").write_text(HEAD.format(name) + text)
        data = folder / "data"
        self.disk = SmallDisk(folder / "disk", data)
        ends.callback(self.disk.close)
        backups = folder / "backups"
        backups.mkdir()
        (backups / file_name(86_400)).touch()
        ends.enter_context(locked_directory(backups))  # as another backup does that hangs
        variables = {"FLOWHOOK_LEASE_SECONDS": 5, "FLOWHOOK_BACKUP_TARGET": backups}
        self.cluster = Up(data, "--flows", folder, "--edges", "1", "--runners", "1", **variables)
        ends.callback(self.cluster.close)
        self._ends = ends
        self.spare = self.start("runner", "--process-name", "runner-2")
        self.edge = self.start("edge", "--process-name", "edge-2", "--http-port", "0")
        self.admin = self.cluster.where["admin_url"]
        self.prometheus = Prometheus(folder, "up.yaml", [self.admin.removeprefix("http://")], THRESHOLDS)
        ends.callback(self.prometheus.close)
        replaced = {transcripts.DOCUMENTED_URL: self.cluster.where["http_url"]}
        replaced |= {"http://127.0.0.1:8081": self.admin, "127.0.0.1:50051": self.cluster.where["grpc_address"]}
        replaced |= {"/backup": str(backups)}
        self.shell = transcripts.Shell(folder, replaced)
        ready = (f'flowhook_up{{process="{name}"}} == 1' for name in ("edge-2", "runner-2"))
        for what in (*ready, "flowhook_runners_connected == 2"):
            wait_until(lambda what=what: self.prometheus.query(what), what)
        self.prometheus.until_no_alert("FlowhookProcessDown")

    def start(self, *arguments, **variables):
        """Start a process of the cluster as a deployment does."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", *arguments],
            env=clean_environment(
                FLOWHOOK_DATA_DIR=self.cluster.data_dir, FLOWHOOK_ROUTER=self.cluster.where["grpc_address"], **variables
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._ends.callback(process.wait)
        self._ends.callback(process.kill)
        return process

    def send(self, flow, number=1):
        for _ in range(number):
            self.cluster.run("send", flow, "--data", "{}")

    def signal(self, number, name, pid):
        """Send a signal to a runner: to the process that was started, and to its child, which does the work."""
        with urllib.request.urlopen(f"{self.admin}/health", timeout=PATIENCE) as answer:
            [working] = [each["pid"] for each in json.load(answer)["processes"] if each["name"] == name]
        for each in (pid, working):
            os.kill(each, number)

    def pid(self, name):
        return int((self.cluster.data_dir / "run" / f"{name}.pid").read_text())

    @contextmanager
    def events(self, flow):
        """Send events all the time."""
        over = threading.Event()
        url = f"{self.cluster.where['http_url']}/hook/{flow}"

        def send():
            while not over.is_set():
                urllib.request.urlopen(url, b"{}", timeout=PATIENCE).close()

        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with ExitStack() as ends:
        yield Place(tmp_path_factory.mktemp("alerts"), ends)


def check_runbook(place, alert):
    """Run the commands of an alert's section, or renew what they print."""
    before, heading, rest = RUNBOOK.read_text(encoding="utf-8").partition(f"\n## {alert}\n")
    section, following, after = rest.partition("\n## ")
    for block in re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        section = section.replace(block, place.shell.check(block))
    if transcripts.RENEW:
        RUNBOOK.write_text(f"{before}{heading}{section}{following}{after}", encoding="utf-8")


def test_a_runner_that_dies_is_down_until_it_is_dismissed(place):
    place.signal(signal.SIGKILL, "runner-2", place.spare.pid)

    [alert] = place.prometheus.until_alert("FlowhookProcessDown")
    assert alert["labels"]["process"] == "runner-2"
    assert alert["annotations"]["summary"] == "runner-2 is down, or not ready"
    check_runbook(place, "FlowhookProcessDown")  # which dismisses it
    place.prometheus.until_no_alert("FlowhookProcessDown")


def test_an_edge_that_stops_in_order_and_comes_back_with_a_wrong_token(place):
    place.edge.terminate()
    place.edge.wait(PATIENCE)
    failed = place.start("edge", "--process-name", "edge-2", "--http-port", "0", FLOWHOOK_TOKEN="mistyped")
    [refused] = place.prometheus.until_alert("FlowhookTokensRefused")
    assert refused["labels"].items() >= {"process": "router-1", "reason": "unknown"}.items()
    place.prometheus.until_no_alert("FlowhookProcessDown")  # it is forgotten, as one that ended in order
    missing = {"severity": "critical", "alertname": "FlowhookProcessMissing", "role": "edge"}
    wait_until(
        lambda: missing in [each["labels"] for each in place.prometheus.alerts("FlowhookProcessMissing")],
        "the edge is missing",
    )
    check_runbook(place, "FlowhookProcessMissing")
    check_runbook(place, "FlowhookTokensRefused")
    failed.kill()
    # with the token that the runbook has rotated; the others use the earlier value
    place.edge = place.start("edge", "--process-name", "edge-2", "--http-port", "0")
    place.prometheus.until_no_alert("FlowhookProcessMissing")


def test_without_runners_nothing_is_executed(place):
    pid = place.pid("runner-1")
    place.signal(signal.SIGSTOP, "runner-1", pid)  # so that its supervisor starts no other
    place.send("orders", 2)
    place.prometheus.until_alert("FlowhookNoRunner")
    check_runbook(place, "FlowhookNoRunner")
    [alert] = place.prometheus.until_alert("FlowhookQueueOld")
    assert alert["labels"]["flow"] == "orders"
    check_runbook(place, "FlowhookQueueOld")
    place.signal(signal.SIGCONT, "runner-1", pid)
    place.prometheus.until_no_alert("FlowhookNoRunner")
    place.prometheus.until_no_alert("FlowhookQueueOld")


def test_many_faults(place):
    place.prometheus.until_alert("FlowhookFaults", lambda: place.send("invoices"))
    check_runbook(place, "FlowhookFaults")


def test_many_refused_requests(place):
    place.cluster.run("secrets", "set", "stripe-webhook", "--value", "whsec_s3cret")
    unsigned = f"curl -s -d '{{}}' {transcripts.DOCUMENTED_URL}/hook/payments"
    # again and again: a counter that is new when it is scraped has not risen yet
    place.prometheus.until_alert("FlowhookRequestsRefused", lambda: place.shell.run(unsigned))
    check_runbook(place, "FlowhookRequestsRefused")


def test_a_flow_that_gets_no_event(place):
    place.prometheus.until_alert("FlowhookFlowSilent")
    check_runbook(place, "FlowhookFlowSilent")
    place.send("hourly-report")
    wait_until(lambda: not place.prometheus.query("flowhook_silent_flows > 0"), "the silence ends")


def test_a_secret_that_executions_wait_for(place):
    place.cluster.run("secrets", "set", "stripe-webhook", "--value", "whsec_s3cret")  # requests wait for none
    place.send("publisher")
    place.prometheus.until_alert("FlowhookSecretMissing")
    check_runbook(place, "FlowhookSecretMissing")  # which sets it
    place.prometheus.until_no_alert("FlowhookSecretMissing")


def test_a_destination_that_is_down(place):
    place.send("shipping")
    place.prometheus.until_alert("FlowhookDestinationDown")
    check_runbook(place, "FlowhookDestinationDown")


def test_slow_commits(place):
    place.disk.need()
    with place.events("orders"):
        place.prometheus.until_alert("FlowhookCommitsSlow", place.disk.stand_still)
    check_runbook(place, "FlowhookCommitsSlow")


def test_a_disk_that_fills(place):
    place.disk.need()
    with place.disk.filled():
        place.prometheus.until_alert("FlowhookDiskFills")
        check_runbook(place, "FlowhookDiskFills")


def test_descriptors_that_are_used_up(place):
    router = psutil.Process(place.pid("router-1"))
    limits = router.rlimit(psutil.RLIMIT_NOFILE)
    router.rlimit(psutil.RLIMIT_NOFILE, (router.num_fds() + 100, limits[1]))
    [alert] = place.prometheus.until_alert("FlowhookDescriptorsUsedUp")
    assert alert["labels"]["process"] == "router-1"
    check_runbook(place, "FlowhookDescriptorsUsedUp")
    router.rlimit(psutil.RLIMIT_NOFILE, limits)
    place.prometheus.until_no_alert("FlowhookDescriptorsUsedUp")


def test_a_token_that_expires(place):
    assert place.cluster.run("tokens", "create", "ci", "--scope", "ingest", "--expires-in", "P2D").code == 0
    [alert] = place.prometheus.until_alert("FlowhookCredentialExpires")
    assert alert["labels"]["token"] == "ci"
    check_runbook(place, "FlowhookCredentialExpires")
    place.prometheus.until_no_alert("FlowhookCredentialExpires")


def test_a_certificate_that_has_expired_when_it_is_loaded(place, tmp_path):
    certificate, key = self_signed(tmp_path, "hooks.example.com", seconds=-1)
    files = ("--tls-cert-file", certificate, "--tls-key-file", key)
    edge = place.start("edge", "--process-name", "edge-3", "--http-port", "0", *files)
    [alert] = place.prometheus.until_alert("FlowhookCertificateExpired")
    assert alert["labels"].items() >= {"process": "edge-3", "file": str(certificate), "severity": "critical"}.items()
    check_runbook(place, "FlowhookCertificateExpired")
    self_signed(tmp_path, "hooks.example.com")
    place.prometheus.until_no_alert("FlowhookCertificateExpired")
    edge.terminate()
    edge.wait(PATIENCE)


def test_what_the_cluster_warns_of(place, tmp_path):
    ahead = place.start("edge", "--process-name", "edge-4", "--http-port", "0", **shifted_clock(tmp_path / "clock", 5))
    key = place.cluster.data_dir / "secrets.key"
    kept = key.rename(key.with_suffix(".kept"))
    warned = {("router-1", "secrets_key"), ("edge-4", "clock")}
    wait_until(
        lambda: (
            {
                (each["labels"]["process"], each["labels"]["kind"])
                for each in place.prometheus.alerts("FlowhookWarning")
                if each["labels"]["kind"] != "backups"
            }
            == warned
        ),
        "the two warn, and no other",
    )
    check_runbook(place, "FlowhookWarning")
    kept.rename(key)
    ahead.terminate()
    ahead.wait(PATIENCE)


def test_backups_that_fail(place):
    place.prometheus.until_alert("FlowhookBackupOld")
    check_runbook(place, "FlowhookBackupOld")


def test_the_dashboards_show_the_cluster(place):
    """After the tests above, by the last of which the cluster has done a bit of everything."""
    queries = [query for panels in dashboards.DASHBOARDS.values() for each in panels for query in each.queries.values()]
    plain = {query.replace("$__rate_interval", "1h").replace("$flow", ".+") for query in queries}

    def empty():
        return {
            each.metric for query in plain if not place.prometheus.query(query) for each in monitoring.selectors(query)
        }

    wait_until(lambda: empty() <= NOT_HERE, "panels show something")
