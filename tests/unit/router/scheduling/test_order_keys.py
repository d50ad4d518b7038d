from __future__ import annotations

from router.scheduling.order_keys import KeyedQueues


def test_who_leaves_while_blocked_has_no_turn_and_a_key_without_executions_is_forgotten():
    queues = KeyedQueues()
    assert [queues.enter(seq, "orders", "key") for seq in range(1, 6)] == [True, False, False, False, False]
    assert [queues.leave(seq) for seq in (4, 2, 1, 5, 3)] == [None, None, 3, None, None]
    assert len(queues) == 0
    assert queues.enter(6, "orders", "key")
