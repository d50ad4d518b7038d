from __future__ import annotations

import pytest

from edge.http.receive_budget import Overloaded, ReceiveBudget


def test_what_is_too_much_is_refused_until_it_is_given_back():
    budget = ReceiveBudget(10)
    budget.take(10)
    with pytest.raises(Overloaded):
        budget.take(1)
    budget.give_back(1)
    assert budget.used == 10
    budget.give_back(10)
    budget.take(10)
