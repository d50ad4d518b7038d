"""The table of what becomes of each state change."""

from typing import get_args

from router.storage.changes import _MERGES
from router.storage.model import StateChange


def test_each_kind_of_change_is_merged():
    assert set(_MERGES) == set(get_args(StateChange))
