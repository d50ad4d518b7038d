import pytest

from runner.worker.execution_driver import ACTIVE, ACTIVE_AT_ONCE, ACTIVE_BYTES, window


@pytest.mark.parametrize(
    ("waiting", "at_once", "event_bytes", "expected"),
    [
        (0, 0.0, 0, ACTIVE),
        (0, 1.0, 0, ACTIVE + ACTIVE_AT_ONCE),
        (0, 0.5, 1000, ACTIVE + ACTIVE_AT_ONCE // 2),
        (0, 1.0, ACTIVE_BYTES, ACTIVE),
        (30, 0.0, 0, ACTIVE + 40),
        (30, 1.0, ACTIVE_BYTES, ACTIVE + 40),
    ],
)
def test_more_is_requested_beside_what_waits_and_if_executions_end_at_once(waiting, at_once, event_bytes, expected):
    assert window(waiting, at_once, event_bytes) == expected
