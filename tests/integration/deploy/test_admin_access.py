"""What the files say about who may ask the admin process for what is true."""

from __future__ import annotations

import re

import pytest
from support.deploy_files import DEPLOY

from admin import application
from admin.app import TOKENS
from admin.status_handlers import HealthHandler, LivenessHandler, MetricsHandler, ReadinessHandler
from flowhook.security.tokens import TokenScope

FILES = [DEPLOY / "systemd" / "admin.env", DEPLOY / "kustomize" / "base" / "admin.yaml"]
OPEN = (HealthHandler, LivenessHandler, MetricsHandler, ReadinessHandler)


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def comment(request):
    """The comment at the beginning of a file, in one line."""
    lines = request.param.read_text().splitlines()
    first = [line.removeprefix("#").strip() for line in lines if line.startswith("#") and "=" not in line]
    return " ".join(first)


def test_the_paths_that_ask_for_no_token_are_named(comment):
    open_paths = {path for path, handler, *_ in application.PAGES if handler in OPEN}
    said = re.search(r"((?:/\w+(?:, | and )?)+)\s*ask for no token", comment)[1]
    assert set(re.findall(r"/\w+", said)) == open_paths


def test_the_scopes_that_people_need_are_named(comment):
    assert set(re.findall(r"`(\w+)` may", comment)) == {TokenScope.VIEW, TokenScope.ADMIN}
    assert "asks for no credentials" not in comment


def test_the_token_of_the_process_is_the_one_that_it_reads(comment):
    assert f"{TOKENS[0]}.token" in comment
