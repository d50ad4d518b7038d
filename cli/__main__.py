"""Entry point of `flowhook` and of `python -m cli`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

# gRPC reads both when it is imported. What we fork executes something else at once, so that it need not prepare for it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
if sys.argv[1:2] != ["router"]:
    # it tells of each attempt to connect, between our own lines. A router is not the one who connects: what it says of
    # strangers' handshakes is nowhere else.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from cli import app
from cli.failures import EXIT_INTERRUPTED, report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; errors are printed, never raised.

    Args:
        arguments: those of the process when absent.
    """
    command = typer.main.get_command(app.create())
    try:
        code = command.main(args=arguments, prog_name="flowhook", standalone_mode=False)
        sys.stdout.flush()
    except typer.Abort:
        return EXIT_INTERRUPTED
    except typer.TyperException as error:
        return _usage_error(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # whoever reads the output has seen enough; the interpreter's own flush must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - it is told, as the last thing
        return report(error)
    return code if isinstance(code, int) else 0


def _usage_error(error: typer.TyperException) -> int:
    describe = getattr(error, "format_message", None)
    # pydantic, which checks the values of options, says of each error what kind of Python it is
    message = " ".join((describe() if describe else str(error)).split()).replace(": Value error, ", ": ")
    context = getattr(error, "ctx", None)
    if message:  # without one, the help was printed already
        print(f"flowhook: {message}", file=sys.stderr)
        if context is not None:
            print(f"Try '{context.command_path} --help'.", file=sys.stderr)
    return int(getattr(error, "exit_code", 2))


if __name__ == "__main__":
    sys.exit(main())
