"""Parameters are those that are declared, and messages say which there are."""

from __future__ import annotations

import pytest
from support.cases import cases

from flowhook.errors import InvalidError
from flowhook.model import Status
from operations import table
from operations.operation import ParameterError
from operations.table import LIST_EXECUTIONS, OPERATIONS, PAUSE_FLOW, REPLAY_EXECUTION, SET_SECRET


def test_parameters_of_a_query_are_read():
    query = {"flow": ["orders"], "status": ["faulted", "cancelled"], "page_size": ["7"], "unresolved": ["true"]}
    read = LIST_EXECUTIONS.read_query({}, query)
    assert (read.flow, read.status) == ("orders", (Status.FAULTED, Status.CANCELLED))
    assert (read.page_size, read.unresolved) == (7, True)


def test_empty_parameters_count_as_absent():
    assert LIST_EXECUTIONS.read_query({}, {"flow": [""], "status": [""]}) == LIST_EXECUTIONS.read_query({}, {})


@cases(
    ("query", "message"),
    [
        ({"statsu": ["faulted"]}, "there is no parameter 'statsu': write flow, status, unresolved"),
        ({"status": ["broken"]}, "'faulted'"),
        ({"page_size": ["0"]}, "page_size: "),
        ({"page_size": ["many"]}, "page_size: "),
        ({"flow": ["a", "b"]}, "flow may be given once"),
        ({"unresolved": ["perhaps"]}, "unresolved: "),
    ],
)
def test_others_are_refused(query, message):
    with pytest.raises(InvalidError, match=r"^[^\n]*$") as caught:
        LIST_EXECUTIONS.read_query({}, query)
    assert message in caught.value.message
    assert caught.value.reason == "PARAMETER_INVALID"


def test_the_error_says_of_each_parameter_what_is_wrong():
    query = {
        "since": ["never"],
        "attribute": ["a:1", "b", "c"],
        "min_attempts": ["x"],
        "statsu": ["faulted"],
        "flow": ["f"],
    }
    with pytest.raises(ParameterError) as caught:
        LIST_EXECUTIONS.read_query({}, query)
    fields = caught.value.fields
    assert fields.keys() == {"since", "attribute", "min_attempts", "statsu"}
    assert fields["attribute"] == "write NAME:VALUE, such as order:4711"
    with pytest.raises(ParameterError) as caught:
        LIST_EXECUTIONS.read_query({}, {"flow": ["a", "b"]})
    assert caught.value.fields == {"flow": "may be given once"}


def test_a_draft_has_what_was_typed_where_it_is_invalid():
    query = {"since": ["never"], "attribute": ["a:1", "b"], "min_attempts": ["7"], "flow": ["f", "g"], "color": ["red"]}
    draft = LIST_EXECUTIONS.draft({}, query, {"since", "attribute", "flow", "color"})
    assert (draft.since, draft.attribute, draft.min_attempts, draft.flow) == ("never", ("a:1", "b"), 7, "f")
    assert draft.page_size == LIST_EXECUTIONS.read_query({}, {}).page_size
    incomplete = REPLAY_EXECUTION.draft({}, {"task": ["/do/0/a"], "start": ["?"]}, {"start", "execution_id"})
    assert (incomplete.task, incomplete.start) == ("/do/0/a", "?")


@cases("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_no_number_is_larger_than_the_router_takes(operation):
    """What gRPC can't send would end a request with 500."""
    numbers = [name for name, field in operation.model.model_fields.items() if field.annotation is int]
    path = dict.fromkeys(operation.path_parameters, "0")
    for name in numbers:
        others = {each: value for each, value in path.items() if each != name}
        with pytest.raises(InvalidError):
            operation.read(others, {name: 2**63})


def test_a_parameter_of_the_path_is_no_other():
    with pytest.raises(InvalidError, match="flow_id"):
        PAUSE_FLOW.read({"flow_id": "orders"}, {"flow_id": "other"})


@pytest.mark.parametrize("body", [{"revision": "newest"}, {"start": 1}, {"request_id": "ä"}, {"x": None}])
def test_a_body_is_checked(body):
    with pytest.raises(InvalidError):
        REPLAY_EXECUTION.read({"execution_id": "evt_1"}, body)


def test_the_value_of_a_secret_stands_in_no_message():
    with pytest.raises(InvalidError) as caught:
        SET_SECRET.read({}, {"name": "", "value": "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(SET_SECRET.read({}, {"name": "a", "value": "hunter2"}))


def test_names_and_paths_are_unique():
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)
    assert len({(operation.method, operation.path) for operation in OPERATIONS}) == len(OPERATIONS)


def test_every_operation_stands_in_the_table():
    assert {value for value in vars(table).values() if isinstance(value, table.Operation)} == set(OPERATIONS)
