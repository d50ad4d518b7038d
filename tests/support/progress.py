"""Prints a line for each tenth of the suite instead of a dot for each test: a green run fits a screen."""

from __future__ import annotations

from typing import Final

import pytest

TENTHS: Final = 10
MANY: Final = 300
"""Tests from which on a run in several processes is shown this way."""


class Progress:
    def __init__(self, terminal):
        self._terminal = terminal
        self._total = self._done = 0

    def pytest_xdist_node_collection_finished(self, ids):
        self._total = len(ids)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_teststatus(self, report):
        category, letter, word = yield
        if self._total < MANY:
            return category, letter, word
        return category, f"{category}: {report.nodeid}\n" if category in {"failed", "error"} else "", word

    def pytest_runtest_logreport(self, report):
        if self._total < MANY or report.when != "teardown":
            return
        tenth = self._done * TENTHS // self._total
        self._done += 1
        if self._done * TENTHS // self._total > tenth:
            failed = sum(len(self._terminal.stats.get(category, ())) for category in ("failed", "error"))
            seconds = self._terminal._session_start.elapsed().seconds
            self._terminal.write_line(f"{self._done:6} of {self._total}, {failed} failed, {seconds:.0f} s")


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    if config.getoption("numprocesses", None) and (terminal := config.pluginmanager.get_plugin("terminalreporter")):
        config.pluginmanager.register(Progress(terminal))
