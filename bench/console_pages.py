"""The pages of the console that are measured, with all conditions of their lists."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from bench.console_data import COUNTED, FAULTY, LARGE, REVISED, REVISIONS, RUN, SEARCHED
from flowhook.client import AsyncClient

FLOW_CONDITIONS: Final = ("name=flow-9", "name=none-such", "state=paused", "state=failing", "state=needs_secret",
                          "name=flow-9&state=failing")  # fmt: skip

EXECUTION_CONDITIONS: Final[tuple[dict[str, str], ...]] = (
    {"flow": FAULTY},
    {"flow": "none-such"},
    {"status": "faulted"},
    {"status": "cancelled"},
    {"status": "pending"},
    {"unresolved": "true"},
    {"attribute": "order:900"},
    {"attribute": "order:none-such"},
    {"attribute": "long1:" + "x" * 200},
    {"attribute": "long1:" + "x" * 200, "status": "faulted"},
    {"since": "7d"},
    {"since": "1s"},
    {"until": "30d"},
    {"error_type": "https://example.com/errors/refused"},
    {"error_type": "refused"},
    {"error_type": "none-such"},
    {"error_task": "/do/0/fail"},
    {"error_task": "/"},
    {"error_status": "422"},
    {"error_status": "503"},
    {"error_title": "refused"},
    {"min_attempts": "1"},
    {"min_attempts": "2"},
    {"flow": RUN, "status": "faulted", "min_attempts": "2", "since": "7d"},
    {"flow": RUN, "error_status": "422", "error_type": "none-such", "status": "completed"},
    {"jq": ".body.number == 42"},
    {"jq": ".body.number == 43"},
    {"jq": ".body.order == 900", "flow": SEARCHED},
    {"jq": ".body.number == 43", "flow": FAULTY, "status": "faulted", "min_attempts": "1"},
)

JOB_CONDITIONS: Final[tuple[dict[str, str], ...]] = (
    {"status": "faulted"},
    {"status": "completed"},
    {"min_attempts": "2"},
    {"error_status": "503", "error_title": "none-such"},
    {"flow": SEARCHED, "attribute": "order:900"},
)


async def all_pages(client: AsyncClient) -> list[str]:
    """Return the paths of the pages to measure, with what the cluster contains now."""
    flows = await client.flows.statistics_page(page_size=100)
    executions = await client.executions.page(page_size=50)
    rejection = (await client.rejections.page(page_size=1)).items[0].id
    job = (await client.jobs.page(page_size=1)).items[0].id
    paths = ["/flows", f"/flows?{urlencode({'page_token': flows.next_page_token})}"]
    paths += [f"/flows?{condition}" for condition in FLOW_CONDITIONS]
    for flow_id in (RUN, LARGE):
        paths += [
            f"/flows/{flow_id}",
            f"/flows/{flow_id}/test",
            f"/apply?flow={flow_id}",
            f"/flows/{flow_id}/revisions",
        ]
    paths += [f"/flows/{REVISED}", f"/flows/{REVISED}?revision=1", f"/flows/{REVISED}/revisions"]
    paths += [f"/flows/{REVISED}/revisions?old=1&new={REVISIONS}", "/apply"]
    paths += ["/executions", f"/executions?{urlencode({'page_token': executions.next_page_token})}"]
    paths += [f"/executions?{urlencode(conditions)}" for conditions in EXECUTION_CONDITIONS]
    paths += await _execution_pages(client)
    paths += ["/faults", f"/faults?flow={FAULTY}", "/jobs", "/jobs/new", f"/jobs/{job}", f"/jobs/{job}/progress"]
    paths += [f"/jobs/new?{urlencode({**conditions, 'action': 'replay'})}" for conditions in JOB_CONDITIONS]
    paths += [
        "/rejections",
        "/rejections?flow=flow-7",
        "/rejections?reason=TIMESTAMP_STALE",
        "/rejections?flow=none-such",
    ]
    paths += [f"/rejections/{rejection}", "/secrets", "/cluster", "/audit"]
    return paths


async def _execution_pages(client: AsyncClient) -> list[str]:
    """Return the views of one execution of each kind, replays of it, and comparisons of two."""
    paths = []
    for flow_id in (RUN, FAULTY, SEARCHED, LARGE, COUNTED):
        found = [each.id async for each in client.executions.list(flow_id=flow_id, limit=2)]
        path = f"/executions/{found[0]}"
        paths += [path, f"{path}?view=timeline", f"{path}?view=trace&task=1", f"{path}?view=journal"]
        paths += [f"{path}/replay", f"{path}/diff?with={found[1]}", f"/flows/{flow_id}/test?execution={found[0]}"]
    return paths
