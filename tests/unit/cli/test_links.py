"""Links of an execution, for people and for programs."""

from cli.links import link_rows, links_as_json
from flowhook.model import Status
from flowhook.model.executions import NO_LINKS, ExecutionLinks, LinkedExecution, LinkKind

LINKS = ExecutionLinks(
    (LinkedExecution("evt_1", (LinkKind.EVENT, LinkKind.LISTEN)),),
    (LinkedExecution("evt_3", (LinkKind.RUN,), "shop", Status.FAULTED), LinkedExecution("evt_2", (LinkKind.EVENT,))),
    more_caused=True,
)


def test_links_are_shown_if_there_are_any():
    assert list(link_rows(NO_LINKS)) == []
    assert list(link_rows(LINKS)) == [
        ("causes", "evt_1 (event and listen)"),
        ("caused", "evt_3 (run), evt_2 (event), ..."),
    ]


def test_a_linked_execution_that_is_not_stored_any_more_has_no_flow():
    shown = links_as_json(LINKS)
    assert shown["causes"] == [{"id": "evt_1", "kinds": ["event", "listen"], "flow": None, "status": None}]
    assert shown["caused"][0] == {"id": "evt_3", "kinds": ["run"], "flow": "shop", "status": "faulted"}
    assert shown["more_caused"]
