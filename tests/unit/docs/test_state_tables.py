"""The tables of states in docs/architecture.md are those that the code looks transitions up in.

After a change, `FLOWHOOK_RENEW_DOCS=1` renders them anew.
"""

from __future__ import annotations

import os
import re

import pytest
from support import pages

from flowhook.model.jobs import JOB_TRANSITIONS
from router import session as router_session
from router.cluster.ownership import TRANSITIONS
from runner import session as runner_session

TABLES = {
    "ownership": TRANSITIONS,
    "jobs": JOB_TRANSITIONS,
    "runner": runner_session.PHASES,
    "router": router_session.PHASES,
}


def rendered(transitions):
    rows = [
        f"| {state.value} | `{event}` | {'stays' if to is state else to.value} |"
        for (state, event), to in transitions.items()
    ]
    return "\n".join(["| state | on | next |", "|---|---|---|", *rows]) + "\n"


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_states_is_that_of_the_code(name):
    text = pages.text_of("architecture.md")
    (there,) = re.findall(rf"<!-- transitions: {name} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    if os.environ.get("FLOWHOOK_RENEW_DOCS"):
        path = pages.ROOT / "docs" / "architecture.md"
        begin = f"<!-- transitions: {name} -->\n"
        path.write_text(text.replace(f"{begin}{there}<!-- end -->", f"{begin}{rendered(TABLES[name])}<!-- end -->"))
    assert there == rendered(TABLES[name])
