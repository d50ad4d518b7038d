"""JSON of results: integers of any length, and no text that can't be read again."""

import sys

import orjson
import pytest

from runner.interpreter.errors import TaskFault
from runner.interpreter.json_codec import encode


def nested(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


DEEPEST = 1024 if sys.version_info >= (3, 12) else 900
"""orjson reads no more; before Python 3.12 `json` writes no more than there may be frames."""


@pytest.mark.parametrize("levels", [1, 300, DEEPEST])
def test_what_can_be_read_again_is_encoded(levels):
    assert orjson.loads(encode(nested(levels))) == nested(levels)


@pytest.mark.parametrize("levels", [1025, 5_000, 200_000])
def test_what_is_nested_too_deeply_to_be_read_again_is_a_fault(levels):
    with pytest.raises(TaskFault, match="nested too deeply"):
        encode(nested(levels))


def test_integers_of_any_length_are_encoded():
    assert encode({"n": 2**70}) == b'{"n":%d}' % 2**70
