"""Which router owns the shard, by the reports of several."""

from __future__ import annotations

import pytest

from flowhook.client.owner_reports import OwnerReport, OwnerReports

FIRST = OwnerReport(1, "a:1", serving=True)
SECOND = OwnerReport(2, "b:1", serving=True)
UNKNOWN = OwnerReport(0, "", serving=False)


@pytest.fixture
def reports():
    return OwnerReports()


def test_without_a_report_none_is_known(reports):
    assert reports.latest() is None


def test_a_router_that_knows_none_says_nothing_about_the_others(reports):
    reports.record("a:1", UNKNOWN)
    assert reports.latest() is None
    reports.record("b:1", FIRST)
    assert reports.latest() == FIRST
    reports.record("c:1", UNKNOWN)
    assert reports.latest() == FIRST


@pytest.mark.parametrize("order", [(FIRST, SECOND), (SECOND, FIRST)])
def test_the_highest_epoch_is_right_whatever_the_order_and_a_lower_one_never(reports, order):
    for source, report in zip("ab", order, strict=True):
        reports.record(source, report)
    assert reports.latest() == SECOND


def test_a_higher_epoch_is_right_before_its_owner_serves(reports):
    reports.record("a:1", FIRST)
    recovering = OwnerReport(2, "b:1", serving=False)
    reports.record("b:1", recovering)
    assert reports.latest() == recovering


def test_an_owner_serves_if_any_router_says_so(reports):
    reports.record("b:1", SECOND)
    reports.record("c:1", OwnerReport(2, "b:1", serving=False))
    assert reports.latest() == SECOND
    reports.record("b:1", OwnerReport(2, "b:1", serving=False))
    assert reports.latest() == OwnerReport(2, "b:1", serving=False)


def test_a_router_that_lags_behind_its_own_report_is_not_believed(reports):
    reports.record("a:1", SECOND)
    reports.record("a:1", FIRST)
    assert reports.latest() == SECOND


def test_an_owner_that_no_router_knows_any_more_does_not_serve_and_no_earlier_one_takes_its_place(reports):
    for source in ("a:1", "b:1"):
        reports.record(source, SECOND)
        reports.record(source, UNKNOWN)
    reports.record("c:1", FIRST)
    assert reports.latest() == OwnerReport(2, "b:1", serving=False)
    reports.record("a:1", OwnerReport(3, "a:1", serving=True))
    assert reports.latest() == OwnerReport(3, "a:1", serving=True)


def test_a_router_that_was_restarted_may_know_none_before_it_knows_one_with_a_lower_epoch(reports):
    reports.record("a:1", SECOND)
    reports.end("a:1")
    reports.record("a:1", UNKNOWN)
    reports.record("a:1", FIRST)
    assert reports.latest() == FIRST


def test_what_a_router_reported_outlasts_the_end_of_its_stream(reports):
    reports.record("a:1", SECOND)
    reports.end("a:1")
    reports.record("b:1", FIRST)
    assert reports.latest() == SECOND


def test_a_new_stream_may_begin_at_a_lower_epoch_because_the_log_may_be_another_one(reports):
    for source in ("a:1", "b:1"):
        reports.record(source, SECOND)
        reports.end(source)
    reports.record("a:1", FIRST)
    assert reports.latest() == SECOND
    reports.record("b:1", FIRST)
    assert reports.latest() == FIRST
    reports.record("b:1", SECOND)
    reports.record("b:1", FIRST)
    assert reports.latest() == SECOND


def test_a_report_without_an_address_leads_nowhere(reports):
    reports.record("a:1", OwnerReport(3, "", serving=True))
    reports.record("b:1", FIRST)
    assert reports.latest() == FIRST
