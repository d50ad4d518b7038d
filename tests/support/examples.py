"""How many examples a property is tried with: all of them in `make test-release`, a fifth otherwise."""

from __future__ import annotations

from typing import Final

from hypothesis import settings

PROFILES: Final = {"suite": 20, "full": 100}
"""Examples of a property that names no number, by the profile of `--hypothesis-profile`; `suite` is the default."""


def register_profiles() -> None:
    # how long an example takes says more of what else runs than of what is tested; `timeout` bounds a test
    for name, count in PROFILES.items():
        settings.register_profile(name, deadline=None, max_examples=count)
    settings.load_profile("suite")


def examples(full: int) -> int:
    """Return how many of `full` examples the loaded profile tries, for properties that need more or fewer than most."""
    return max(full * settings.default.max_examples // PROFILES["full"], 5)
