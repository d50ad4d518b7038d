"""Jobs as messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook.model.execution_filter import ExecutionFilter
from flowhook.model.jobs import DEFAULT_RATE, ItemOutcome, Job, JobAction, JobItem, JobSpec, JobState
from flowhook.model.replays import ReplayOptions
from flowhook.v1 import job_service_pb2 as pb
from flowhook.wire import convert_jobs

TIMES = st.integers(0, 2**40)
FILTERS = [ExecutionFilter(flow_id="f"), ExecutionFilter(error_task=""), ExecutionFilter(unresolved=True)]
BYTES = st.none() | st.binary(max_size=20)
REPLAYS = st.one_of(
    st.fixed_dictionaries({"latest": st.booleans(), "from_failed": st.booleans()}),
    st.fixed_dictionaries({"latest": st.booleans(), "from_task": st.text(min_size=1), "output": BYTES}),
    st.fixed_dictionaries({"body": st.binary(max_size=20), "content_type": st.none() | st.text()}),
).map(lambda options: ReplayOptions(**options))
SPECS = st.builds(
    JobSpec,
    action=st.sampled_from(JobAction),
    filter=st.sampled_from(FILTERS),
    replay=REPLAYS,
    again=st.booleans(),
    rate=st.floats(0.1, 1000),
    reason=st.text(),
)
JOBS = st.builds(
    Job,
    id=st.text(),
    state=st.sampled_from(JobState),
    spec=SPECS,
    expected=st.none() | TIMES,
    matched=TIMES,
    done=TIMES,
    skipped=TIMES,
    failed=TIMES,
    create_time_ms=TIMES,
    start_time_ms=st.none() | TIMES,
    end_time_ms=st.none() | TIMES,
    delay_reason=st.text(),
    data_bytes=TIMES,
)
ITEMS = st.builds(
    JobItem,
    number=TIMES,
    execution_id=st.text(),
    outcome=st.sampled_from(ItemOutcome),
    reason=st.text(),
    message=st.text(),
    new_execution_id=st.text(),
    time_ms=TIMES,
)


@given(JOBS)
def test_a_job_survives_the_wire(job):
    message = pb.Job.FromString(convert_jobs.job_to_proto(job).SerializeToString())
    assert convert_jobs.job_from_proto(message) == job


@given(ITEMS)
def test_an_outcome_survives_the_wire(item):
    message = pb.JobItem.FromString(convert_jobs.item_to_proto(item).SerializeToString())
    assert convert_jobs.item_from_proto(message) == item
    assert convert_jobs.outcome_from_proto(convert_jobs.outcome_to_proto(item.outcome)) is item.outcome


def test_no_outcome_means_any():
    assert convert_jobs.outcome_from_proto(convert_jobs.outcome_to_proto(None)) is None


def test_a_job_without_a_rate_has_the_default_and_one_without_an_action_is_refused():
    assert convert_jobs.spec_from_proto(pb.JobSpec(action=pb.JobSpec.ACTION_CANCEL)).rate == DEFAULT_RATE
    with pytest.raises(KeyError):
        convert_jobs.spec_from_proto(pb.JobSpec())
