"""Tests of the processes themselves: each has its own."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _warm_processes():
    """Keep none."""
