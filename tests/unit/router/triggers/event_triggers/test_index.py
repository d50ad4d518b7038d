"""Which flows an event concerns."""

from __future__ import annotations

import orjson
import pytest

from flowhook.events.lifecycle import WorkflowEventType
from flowhook.model import Correlation, EventFilter
from router.scheduling.matching import IncomingEvent
from router.triggers.event_triggers.filters import ANY_EVENT, compile_filters
from router.triggers.event_triggers.index import FlowIndex


def wants(type_="", *correlations, **attributes):
    return compile_filters([EventFilter(False, type_, tuple(sorted(attributes.items())), correlations)])[0]


def event(type_="a", **attributes):
    content = {"specversion": "1.0", "id": "1", "source": "/s", "type": type_, **attributes}
    return IncomingEvent("", callback=False, type_=type_, payload=orjson.dumps(content))


@pytest.fixture
def index():
    return FlowIndex()


def test_an_event_concerns_those_that_want_its_type_or_any_each_once(index):
    index.put("one", [wants("a"), wants("a", source="/s")])
    index.put("other", [wants("b")])
    index.put("all", [ANY_EVENT])
    index.put("both", [wants("b"), wants(source="/s")])
    assert sorted(index.find(event())) == ["all", "both", "one"]
    assert sorted(index.find(event("b"))) == ["all", "both", "other"]
    assert index.find(event("c", source="/t")) == ["all"]


def test_an_event_about_an_execution_concerns_those_that_name_its_type(index):
    index.put("named", [wants(WorkflowEventType.FAULTED)])
    index.put("all", [ANY_EVENT])
    index.put("sourced", [wants(source="/s")])
    index.put("other", [wants(WorkflowEventType.COMPLETED), ANY_EVENT])
    assert index.find(event(WorkflowEventType.FAULTED)) == ["named"]
    assert (index.names(WorkflowEventType.FAULTED), index.names(WorkflowEventType.STARTED)) == (True, False)


def test_a_flow_that_changed_wants_what_it_says_now(index):
    index.put("flow", [wants("a"), ANY_EVENT])
    index.put("flow", [wants("b")])
    assert (index.find(event("a")), index.find(event("b"))) == ([], ["flow"])
    index.put("flow", [])
    assert (index.find(event("b")), len(index), index.names("a"), index.names("b")) == ([], 0, False, False)


@pytest.mark.parametrize(
    ("event_filter", "passed"),
    [
        (wants("a", subject="x"), True),
        (wants("a", subject="y"), False),
        (wants("a", missing="x"), False),
        (wants("a", count="7", urgent="true"), True),
        (wants("a", Correlation(".data.n", b"1.0")), True),
        (wants("a", Correlation(".data.n", b'"1"')), False),
        (wants("a", Correlation('"\\(.data.n)/\\(.subject)"', b'"1/x"')), True),
        (wants("a", Correlation(".subject.no", b"null")), False),
    ],
)
def test_an_event_concerns_a_flow_when_it_has_all_that_a_filter_requests(index, event_filter, passed):
    index.put("flow", [event_filter])
    assert index.find(event(subject="x", count=7, urgent=True, data={"n": 1})) == ["flow"] * passed
