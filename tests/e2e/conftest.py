"""One cluster for all tests that leave it as they found it; its flows are told apart by name."""

from __future__ import annotations

import pytest
import pytest_asyncio
from support.systems import running_system


def answer_of_the_world(request):
    """What the stand-in answers: X as X does, a path with a status in it with that status."""
    if request.path == "/2/tweets":
        return 201, {"data": {"id": "1346889436626259968", "text": "as posted"}}
    if request.path.startswith("/status/"):
        return int(request.path.removeprefix("/status/")), {"said": "no"}
    return 200, {"ok": True}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def system():
    async with running_system("--allow-private-addresses", answer=answer_of_the_world) as system:
        yield system


def pytest_collection_modifyitems(items):
    """Run what uses the shared cluster in the loop that it lives in."""
    for item in items:
        if "system" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
