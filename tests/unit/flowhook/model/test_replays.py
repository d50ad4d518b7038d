"""How replays are made, in words."""

from __future__ import annotations

import pytest

from flowhook.model.replays import AS_RECORDED, ReplayOptions

GIVEN = "from /do/0/a (which is not performed: its output is the given one), with the results before it"
FAILED = "from the task that failed, with the results before it"
AS_IT_WAS = "the input as it was; calls have"


@pytest.mark.parametrize(
    ("options", "revision", "start", "rest"),
    [
        (AS_RECORDED, "revision that each ran", "from the beginning", f"{AS_IT_WAS} new idempotency keys"),
        (
            ReplayOptions(latest=True, from_failed=True),
            "latest revision",
            FAILED,
            f"{AS_IT_WAS} the idempotency keys that they had",
        ),
        (
            ReplayOptions(from_task="/do/0/a", output=b""),
            "revision that each ran",
            GIVEN,
            f"{AS_IT_WAS} new idempotency keys",
        ),
        (
            ReplayOptions(body=b""),
            "revision that each ran",
            "from the beginning",
            "the edited input; calls have new idempotency keys",
        ),
    ],
)
def test_options_in_words(options, revision, start, rest):
    assert options.in_words() == f"on the {revision}, {start}, with {rest}"
