"""The entry point of the supervisor process, which `flowhook up` execs after its checks.

The process lives as long as the cluster and does little, so it imports little more than asyncio.
"""

from __future__ import annotations

import sys

from cli import interrupts


def main() -> int:
    """Run the cluster that the environment describes, and return the exit code."""
    interrupts.end_at_once()  # until the cluster has handlers of its own
    import asyncio
    import os
    from contextlib import closing
    from pathlib import Path

    from cli import failures
    from cli.supervisor import SPEC
    from cli.supervisor.cluster import FlowsOfSpec, run_cluster
    from cli.supervisor.cluster_spec import ClusterSpec
    from cli.supervisor.rundir import RunDir

    try:
        spec = ClusterSpec.from_json(os.environ.pop(SPEC))
        with closing(RunDir(Path(spec.data_dir))) as run_dir:
            return asyncio.run(run_cluster(spec, run_dir, FlowsOfSpec(spec)))
    except KeyboardInterrupt:
        return failures.EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - reported before the process exits
        return failures.report_end(error)


if __name__ == "__main__":
    sys.exit(main())
