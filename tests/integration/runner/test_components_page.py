"""docs/components.md: its component is one that an entry point loads, that a flow may call, and that its test tests."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

from flowhook.document.loader import parse
from runner.component_names import component_names
from runner.components import Component, Kind, TaskFault, component
from runner.components.registry import components
from runner.components.testing import Answer, call, receiver

PAGE = Path(__file__).parents[3] / "docs" / "components.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language):
    return [text for found, text in BLOCK.findall(PAGE.read_text()) if found == language]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install the page's package: its module, and its entry point as a package manager writes it."""
    (tmp_path / "acme_flowhook.py").write_text(blocks("python")[0])
    metadata = tmp_path / "acme_flowhook-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-flowhook\nVersion: 1.0\n")
    ((group, points),) = tomllib.loads(blocks("toml")[0])["project"]["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    components.cache_clear()
    yield
    components.cache_clear()
    sys.modules.pop("acme_flowhook", None)


def test_the_component_is_found_by_its_entry_point_and_flows_may_call_it(installed):
    found = components()["acme.notify"]
    assert isinstance(found, Component)
    assert found.summary == "Send a text to a pager; returns `{id}`."
    assert parse(blocks("yaml")[0].encode(), functions=component_names()).id == "alarm"


async def test_its_test_passes(installed):
    namespace = {}
    exec(compile(blocks("python")[2], PAGE, "exec"), namespace)
    await namespace["test_a_message_is_sent"]()


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        ({"text": "hi"}, 401, (Kind.AUTHENTICATION, 401)),
        ({"text": "hi"}, 503, (Kind.COMMUNICATION, 503)),
        ({"text": ""}, 201, (Kind.CONFIGURATION, 400)),
        ({"text": "hi", "txt": "x"}, 201, (Kind.CONFIGURATION, 400)),
    ],
)
async def test_its_errors_are_those_it_names(installed, arguments, status, expected):
    notify = components()["acme.notify"]
    async with receiver(Answer(status)) as pager:
        with pytest.raises(TaskFault) as problem:
            await call(notify, {"to": "ada", "url": pager.url, **arguments}, secrets={"acme": b"t0ps3cret"})
    error = problem.value.error
    assert (error.type.rpartition("/")[2], error.status) == expected


async def test_keyword_parameters_do_as_well():
    namespace = {"component": component, "Context": object}
    exec(compile(blocks("python")[1], PAGE, "exec"), namespace)
    silence = namespace["silence"]
    assert silence.name == "acme.silence"
    assert silence.model.model_validate({"host": "h"}).minutes == 10
