"""The mutations of a campaign change the product where they are to, and only in processes that get them."""

import asyncio
import os
import sys

import pytest
from support.patience import PATIENCE

from chaos.mutations import MUTATIONS

PATCHED = {
    "early-acknowledgement": "from router.storage.writer import Writer as it; print(it._transact.__module__)",
    "skipped-journal-entry": "from router.dispatch import journal_writer; print(journal_writer._journaled.__module__)",
    "unchecked-lease": "from router.scheduling import leases, shard;"
    " print(leases.LeaseTable.seq_of.__module__ if shard.Shard.attach.__module__ != shard.__name__ else '')",
}


async def printed(code, environment):
    """Return what a new process prints that runs some code."""
    async with asyncio.timeout(PATIENCE):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", code, stdout=asyncio.subprocess.PIPE, env={**os.environ, **environment}
        )
        output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().strip()


@pytest.mark.parametrize("name", MUTATIONS)
async def test_a_process_that_gets_a_mutation_has_the_defect(name):
    assert await printed(PATCHED[name], MUTATIONS[name].environment()) == "sitecustomize"


async def test_other_processes_do_not():
    assert await printed(PATCHED["early-acknowledgement"], {}) == "router.storage.writer"
