"""Entry point of the processes of a cluster: `python -m cli.supervised edge` (router, runner, admin), or forked.

It imports the role's code, which takes longest and depends on no other process, and then waits for the settings that
were unknown when it was started. It reads all its settings from the environment.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from pydantic import ValidationError

from cli import setting_names
from cli.roles import ROLES
from flowhook.process import logs
from flowhook.process.kernel import EXIT_ORPHANED
from flowhook.process.supervisor_socket import receive_settings

EXIT_WRONG_USAGE: Final = 2


def main(name: str, *, forked: bool = False) -> int:
    """Run a process of a role to its end, and return its exit code; for `forked` see `Role.load`."""
    role = ROLES[name]
    run = role.load(forked=forked)
    if not receive_settings():
        return EXIT_ORPHANED
    try:
        given = role.settings()
    except ValidationError as error:
        message = setting_names.explain_validation_error(error, {})
        process = os.environ.get("FLOWHOOK_PROCESS_NAME", name)
        logs.report_end(message, reason=setting_names.INVALID, process=process)
        return EXIT_WRONG_USAGE
    return run(given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
