"""Whatever the bytes, reading them takes a bounded time and a bounded memory. Each body is read in a child process.

Times are of CPU, and in proportion to how fast this machine is; see `support.hostile.measured`. The suite reads bodies
of a megabyte, where most of the formats' own limits are met; `FLOWHOOK_HOSTILE_BODIES=all` reads the largest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.hostile import FAMILIES, bodies

from flowhook import limits
from flowhook.payloads import forms
from flowhook.payloads.xml import MAX_TOKEN_BYTES

ROOT = Path(__file__).parents[3]

INLINE_BYTES = 64 * limits.KIB
"""Bodies up to this are read on an edge's event loop, unless they are compressed."""

INLINE_SECONDS = 0.025
SECONDS = 0.25
INLINE_MEMORY = 16 * limits.MIB
MEMORY = 256 * limits.MIB

SLOWER = frozenset(
    {
        "as many members",
        "as many objects",
        "as many strings",
        "attributes",
        "carriage returns",
        "lines of text",
        "one CDATA section without end",
    }
)
"""Large bodies that may take twice as long: as much JSON as is read, with a string for each value, and text that the
XML parser tells a line at a time."""

ALL = os.environ.get("FLOWHOOK_HOSTILE_BODIES") == "all"
LARGE_BYTES = limits.DEFAULT_BODY_BYTES if ALL else limits.DEFAULT_BODY_BYTES // 10


def cost(family, max_bytes, seconds):
    """Yield name, bytes, whether it is compressed, CPU seconds, bytes of memory and outcome of each body."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    done = subprocess.run(
        [sys.executable, "-m", "support.hostile.measured", family, str(max_bytes), str(seconds)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    reported = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{reported[-1:]}: {done.stderr}"
    assert len(reported) >= 2
    return [line for line in reported if len(line) > 1]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "compressed"])
def test_no_body_that_is_read_on_an_event_loop_holds_it_up(family):
    costs = cost(family, INLINE_BYTES, INLINE_SECONDS)
    assert [each for each in costs if each[3] > INLINE_SECONDS or each[4] > INLINE_MEMORY] == []


@pytest.mark.parametrize(
    ("family", "max_bytes"),
    [
        *((family, LARGE_BYTES) for family in FAMILIES),
        ("properties", forms.MAX_PROPERTIES_BYTES),
        ("forms", forms.MAX_BYTES),
        ("xml", MAX_TOKEN_BYTES * 2),
    ],
)
def test_no_body_takes_more_than_its_size_allows(family, max_bytes):
    costs = cost(family, max_bytes, SECONDS)
    assert [each for each in costs if each[3] > SECONDS * (2 if is_slower(each[0]) else 1)] == []
    assert [each for each in costs if each[4] > MEMORY] == []


def is_slower(name):
    return name.partition("/")[2].rpartition(", ")[2] in SLOWER


def test_the_bodies_have_names_of_their_own_and_no_more_bytes_than_they_may():
    made = list(bodies(10_000))
    assert len({body.name for body in made}) == len(made) > 300
    assert {body.name.partition("/")[0] for body in made} == set(FAMILIES)
    assert [body.name for body in made if len(body.content) > 10_100] == []
