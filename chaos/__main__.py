"""`make chaos`: run a campaign against a local cluster, print the verdict as JSON, and exit with 1 if it is bad.

With `--mutation` the cluster has a defect, and the exit code is 1 unless the verdict names what that breaks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import structlog

from chaos.campaign import SQLITE, STORAGES, run_campaign
from chaos.mutations import MUTATIONS


def main() -> int:
    """Parse the command line, run, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="time in which events are sent and faults are made")
    parser.add_argument("--rate", type=float, default=40, help="events a second")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="decides which faults are made")
    parser.add_argument("--storage", choices=STORAGES, default=SQLITE, help="of the router, or of three routers")
    parser.add_argument("--mutation", choices=MUTATIONS, help="a defect of the cluster, which the verdict has to find")
    options = parser.parse_args()
    mutation = MUTATIONS.get(options.mutation)
    if mutation is not None and options.storage != SQLITE:
        parser.error("--mutation needs --storage sqlite")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which ends the cluster, too
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    began = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {line}", file=sys.stderr, flush=True)

    directory = Path(tempfile.mkdtemp(prefix="flowhook-chaos-"))
    report(f"seed {options.seed}; data and log in {directory}")
    verdict = asyncio.run(
        run_campaign(
            directory,
            seconds=options.seconds,
            rate=options.rate,
            seed=options.seed,
            report=report,
            storage=options.storage,
            mutation=mutation,
        )
    )
    described = {"seed": options.seed, "seconds": options.seconds, "storage": options.storage, **verdict.as_dict()}
    if mutation is None:
        print(json.dumps(described, indent=2))
        return 1 if verdict.problems or verdict.refused else 0
    found = not verdict.refused and any(verdict.counts[kind] for kind in mutation.problems)
    print(json.dumps({**described, "mutation": mutation.name, "defect": mutation.defect, "found": found}, indent=2))
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
