"""Debian's Prometheus with the rules of deploy/prometheus, scraping as often as it can."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import pytest
from ruamel.yaml import YAML
from support import deploy_files, monitoring
from support.patience import PATIENCE, wait_until


def promtool(*arguments):
    """Run promtool, and return what it says; fails with that if it complains."""
    if not shutil.which("promtool"):
        pytest.skip("no promtool")
    command = ["promtool", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Prometheus:
    """A server with a configuration of deploy/prometheus, with targets of a test and alerts that wait for nothing.

    `thresholds` of alerts are replaced, where the real ones would take minutes to be reached.
    """

    def __init__(self, folder, configuration, targets, thresholds, *, scrape_seconds=1):
        if not shutil.which("prometheus"):
            pytest.skip("no prometheus")
        [document] = deploy_files.documents(monitoring.PROMETHEUS / configuration)
        scrape = {"scrape_interval": f"{scrape_seconds}s", "scrape_timeout": f"{scrape_seconds}s"}
        document["global"] |= scrape | {"evaluation_interval": "1s"}
        [job] = document["scrape_configs"]
        job["static_configs"] = [{"targets": targets}]
        [rules] = deploy_files.documents(monitoring.PROMETHEUS / "alerts.yaml")
        for group in rules["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    rule["for"] = "0s"
                    for threshold, lowered in thresholds.get(rule["alert"], {}).items():
                        assert threshold in rule["expr"]
                        rule["expr"] = rule["expr"].replace(threshold, lowered)
        for name, content in ("prometheus.yaml", document), ("alerts.yaml", rules):
            with (folder / name).open("w") as file:
                YAML(typ="safe").dump(content, file)
        self._log = folder / "prometheus.log"
        command = ["prometheus", "--config.file", folder / "prometheus.yaml", "--storage.tsdb.path", folder / "tsdb"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([*command, "--web.listen-address", "127.0.0.1:0"], stdout=log, stderr=log)
        try:
            wait_until(lambda: self._ready() or self._process.poll() is not None, "Prometheus is ready")
            assert self._process.poll() is None, self._log.read_text()
        except BaseException:
            self.close()
            raise
        self.url = f"http://{self._address()}/api/v1"

    def _address(self):
        found = re.search(r'msg="Listening on" address=(127\.0\.0\.1:\d+)', self._log.read_text())
        return found and found[1]

    def _ready(self):
        """Whether it answers queries: it listens before that, and answers 503."""
        if not (address := self._address()):
            return False
        try:
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=PATIENCE):
                return True
        except urllib.error.HTTPError:
            return False

    def _get(self, path, **parameters):
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(parameters)}", timeout=PATIENCE) as got:
            return json.load(got)["data"]

    def query(self, expression):
        """Return the samples that an expression gives now."""
        return self._get("/query", query=expression)["result"]

    def alerts(self, name):
        """Return the alerts of a rule that fire."""
        return [each for each in self._get("/alerts")["alerts"] if each["labels"]["alertname"] == name]

    def until_alert(self, name, cause=lambda: None):
        """Wait until an alert fires, and return those that do; `cause` is done again and again meanwhile."""
        wait_until(lambda: (cause(), self.alerts(name))[1], f"{name} fires")
        return self.alerts(name)

    def until_no_alert(self, name, meanwhile=lambda: None):
        """Wait until no alert of a rule fires; `meanwhile` is done again and again until then."""
        wait_until(lambda: (meanwhile(), not self.alerts(name))[1], f"{name} does not fire any more")

    def close(self):
        self._process.kill()
        self._process.wait()
