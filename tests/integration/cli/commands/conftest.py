"""One cluster for all tests of commands, with four flows."""

from __future__ import annotations

import pytest
from support.command_flows import FAULTY, HELLO, QUIET, SIGNED
from support.commands import Up


@pytest.fixture(scope="package")
def flows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flows")
    for name, text in {"hello": HELLO, "signed": SIGNED, "faulty": FAULTY, "quiet": QUIET}.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="package")
def cluster(flows, tmp_path_factory):
    up = Up(tmp_path_factory.mktemp("cluster"), "--flows", flows, "--runners", 1)
    yield up
    up.close()
