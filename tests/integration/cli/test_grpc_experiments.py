"""How processes have gRPC wait for sockets."""

from __future__ import annotations

import asyncio
import os
import sys

CODE = """
import os
import cli.__main__
import grpc
grpc.insecure_channel("127.0.0.1:1").close()
print(os.environ["GRPC_EXPERIMENTS"])
"""


async def test_grpc_knows_the_experiments_that_the_command_turns_off():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", CODE, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    assert process.returncode == 0
    assert errors == b""  # gRPC prints a line for each name that it does not know
    assert output.decode().strip() == os.environ["GRPC_EXPERIMENTS"]  # the suite has the same, see `conftest.py`
