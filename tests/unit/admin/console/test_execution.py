"""Links of an execution as rows of its page."""

from __future__ import annotations

from admin.console.executions import LinkRow, cause_rows, caused_rows
from flowhook.model import Event, Execution, ExecutionDetail, JournalEntry, Status
from flowhook.model.executions import NO_LINKS, ExecutionLinks, LinkedExecution, LinkKind
from flowhook.model.replays import ReplayOrigin
from operations.executions import detail_view

OWN, OTHER = "evt_01999999990000000000000001", "evt_01999999990000000000000002"
JOURNAL = (
    JournalEntry("/do/0/a#0", b'{"execution":"%b"}' % OWN.encode()),
    JournalEntry("/do/1/b#0", b'{"execution":"<script>"}'),
    JournalEntry("/do/2/c#0", None),
    JournalEntry("/do/3/d#0", b'{"execution":"%b"}' % OTHER.encode()),
)


def detail(links=NO_LINKS, journal=(), replay=None):
    execution = Execution("evt_1", "f", 1, Status.RUNNING, 1, 0, None, None)
    event = Event("evt_1", "f", 0, None, "", "POST", "/", "", "", (), b"", replay=replay)
    return detail_view(ExecutionDetail(execution, event, journal, None, links=links))


def linked(execution_id, *kinds, flow_id="shop"):
    return LinkedExecution(execution_id, kinds, flow_id, Status.COMPLETED if flow_id else None)


def test_what_started_an_execution_comes_before_what_sent_it_events():
    both = linked("evt_2", LinkKind.RUN, LinkKind.LISTEN)
    causes = (linked("evt_3", LinkKind.LISTEN), both, linked("evt_1", LinkKind.EVENT))
    rows = cause_rows(detail(ExecutionLinks(causes=causes)))
    assert [(row.execution_id, row.how) for row in rows] == [
        ("evt_2", "its run task started this one, this one received its event"),
        ("evt_1", "its event started this one"),
        ("evt_3", "this one received its event"),
    ]


def test_a_caused_execution_has_the_task_that_started_it_if_the_journal_has_it():
    links = ExecutionLinks(caused=(linked(OWN, LinkKind.RUN), linked("evt_9", LinkKind.EVENT, flow_id="")))
    assert caused_rows(detail(links, JOURNAL)) == [
        LinkRow(OWN, "started by a run task", "shop", Status.COMPLETED, "/do/0/a#0"),
        LinkRow("evt_9", "started by an event of this one", is_gone=True),
    ]


def test_a_replay_also_shows_the_executions_whose_results_it_took_over():
    links = ExecutionLinks(caused=(linked(OWN, LinkKind.RUN),))
    rows = caused_rows(detail(links, JOURNAL, ReplayOrigin(from_failed_task=True)))
    assert rows[1:] == [LinkRow(OTHER, "started by the execution that this one replays", key="/do/3/d#0")]
    cut = links._replace(more_caused=True)
    assert [row.execution_id for row in caused_rows(detail(cut, JOURNAL, ReplayOrigin(from_failed_task=True)))] == [OWN]


def test_an_execution_without_links_has_no_rows():
    assert (cause_rows(detail()), caused_rows(detail())) == ([], [])
    assert caused_rows(detail(journal=JOURNAL)) == []
