"""The editor of flows' files: CodeMirror, which the policy permits, with the checker's faults at their lines."""

from __future__ import annotations

import pytest
import pytest_asyncio
from support.browsers import log_in
from support.routers import flow

pytestmark = pytest.mark.asyncio(loop_scope="session")

FAULTY = "document:\n  dsl: 1.0.3\n  nme: x\ndo: []\n"


@pytest_asyncio.fixture(loop_scope="session")
async def editor(tab, router):
    await log_in(tab, router.token("admin"))
    await tab.goto("/apply")
    await tab.locator(".code-editor .cm-content").wait_for()  # the text area until then
    return tab


async def write(tab, text):
    await tab.evaluate(
        """text => {
            const view = document.querySelector('.code-editor').view;
            view.dispatch({changes: {from: 0, to: view.state.doc.length, insert: text}});
        }""",
        text,
    )


async def test_what_is_written_there_is_applied(editor, client):
    await write(editor, flow("written").decode())
    await editor.get_by_role("textbox", name="File").press("Control+End")
    await editor.keyboard.type("# typed\n")
    await editor.get_by_role("button", name="Apply", exact=True).click()
    await editor.wait_for_url("**/flows/written")
    assert (await client.flows.get("written")).document == flow("written") + b"# typed\n"


async def test_faults_stand_at_their_lines(editor):
    async with editor.expect_response("**/api/check"):
        await write(editor, FAULTY)
    marker = editor.locator(".cm-lint-marker-error").first
    await marker.wait_for()
    await marker.hover()
    await editor.get_by_text("nme").last.wait_for()
