"""Entry point of the child: `python -I -m runner.worker CONTROL_FD RECORD_FD`, started only by the parent."""

from __future__ import annotations

import sys

from runner.worker import process


def main() -> None:
    process.prepare()
    process.run(int(sys.argv[1]), int(sys.argv[2]))


if __name__ == "__main__":
    main()
