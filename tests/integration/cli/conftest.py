"""Supervisors of stand-ins."""

from __future__ import annotations

import pytest
from support.supervisors import Supervised


@pytest.fixture
def supervise(tmp_path):
    """Starts a supervisor of stand-ins; `plan` is the folder that steers them."""
    running = []
    plan = tmp_path / "plan"
    plan.mkdir()

    def start(**counts):
        running.append(Supervised(tmp_path / "data", plan, **counts))
        return running[-1]

    start.plan = plan
    yield start
    for supervised in running:
        supervised.close()
