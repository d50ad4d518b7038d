"""Measures `flowhook migrate`: seconds to move executions of every status to a log on NATS, and back.

Run: .venv/bin/python bench/migration.py [--executions 50000] [--large 100] [--bodies 100] [--payload-bytes 1024]

It starts a nats-server of its own. Each direction includes the comparison, and 2 s of listening for running routers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.nats_servers import nats_server
from support.stored_executions import populate

from router.storage.storage import open_storage


async def _fill(path: Path, arguments: argparse.Namespace) -> None:
    storage = await open_storage(path)
    await populate(
        storage,
        arguments.executions,
        large=arguments.large,
        bodies=arguments.bodies,
        payload_bytes=arguments.payload_bytes,
    )
    await storage.close()


async def _migrate(source: str, target: str) -> float:
    start = time.perf_counter()
    option, path, url = ("--from", source, target) if source.startswith("sqlite:") else ("--to", target, source)
    environment = {**os.environ, "FLOWHOOK_STORAGE": url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "migrate", option, path, stdout=sys.stderr, env=environment
    )
    if await process.wait():
        raise SystemExit("the migration failed")
    return time.perf_counter() - start


def _size(directory: Path) -> float:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) / 1e6


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=50_000)
    parser.add_argument("--large", type=int, default=100)
    parser.add_argument("--bodies", type=int, default=100)
    parser.add_argument("--payload-bytes", type=int, default=1024)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, nats_server(Path(scratch, "nats")) as server:
        data, back = Path(scratch, "data", "flowhook.db"), Path(scratch, "back", "flowhook.db")
        asyncio.run(_fill(data, arguments))
        url = server.url(max_bytes="256M")
        print(f"{arguments.executions} executions, {_size(data.parent):.0f} MB with payloads and bodies")
        print(f"to the log:   {asyncio.run(_migrate(f'sqlite:{data}', url)):.1f} s")
        print(f"and back:     {asyncio.run(_migrate(url, f'sqlite:{back}')):.1f} s, {_size(back.parent):.0f} MB")


if __name__ == "__main__":
    main()
