from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from edge.http.receive_budget import Overloaded, ReceiveBudget, charge
from flowhook.sharing.table import EdgeLimits

ONE, OTHER = ip_address("192.0.2.1"), ip_address("192.0.2.2")


def test_a_sender_has_a_share_until_it_is_given_back():
    budget = ReceiveBudget(replace(EdgeLimits().received_bytes, total=40))
    first, second, other = budget.seat(ONE), budget.seat(ONE), budget.seat(OTHER)
    charge(first, 10)
    with pytest.raises(Overloaded):
        charge(second, 1)
    charge(other, 7)
    charge(first, 7)
    charge(second, 1)
    assert budget.used == 15
    for seat in (first, second, other):
        seat.release()
    assert budget.used == 0


def test_addresses_of_one_network_are_one_sender():
    budget = ReceiveBudget(replace(EdgeLimits().received_bytes, total=40))
    charge(budget.seat(ip_address("2001:db8::1")), 10)
    with pytest.raises(Overloaded):
        charge(budget.seat(ip_address("2001:db8::2")), 1)
    charge(budget.seat(ip_address("2001:db8:0:1::2")), 1)
