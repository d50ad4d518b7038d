"""The entry point of `flowhook` and of `python -m cli`."""

from __future__ import annotations

import os
import sys

from cli import interrupts

TYPE_CHECKING = False  # as `typing` has it, which takes its time
if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer

# gRPC reads these variables when it is imported. Forked processes exec at once, so gRPC need not prepare for forks.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
# Without gRPC's event engine, the thread that waits for completions waits for sockets itself. A message and its answer
# take 12 switches of threads instead of 19, and two thirds of the CPU time.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
if sys.argv[1:2] != ["router"]:
    # gRPC logs each attempt to connect, in between this program's own lines. A router connects to other routers only,
    # and failed handshakes of clients are logged nowhere else, so its log stays on.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; without arguments, that of the command line, as the only one of this process."""
    if arguments is None:
        interrupts.end_at_once()
    import typer

    from cli import app
    from cli.failures import EXIT_INTERRUPTED, report

    try:
        command = typer.main.get_command(app.create(sys.argv[1:] if arguments is None else arguments))
        if arguments is None:
            interrupts.raise_again()
        code = command.main(args=arguments, prog_name="flowhook", standalone_mode=False)
        sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except typer.TyperException as error:
        return _usage_error(error)
    except BrokenPipeError:
        # the reader has closed the pipe; the interpreter's flush at exit must not raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - reported before the process exits
        return report(error)
    return code if isinstance(code, int) else 0


def _usage_error(error: typer.TyperException) -> int:
    describe = getattr(error, "format_message", None)
    # pydantic, which checks the values of options, names the Python type of each error; that is removed
    message = " ".join((describe() if describe else str(error)).split()).replace(": Value error, ", ": ")
    context = getattr(error, "ctx", None)
    if message:  # without a message, the help was printed already
        print(f"flowhook: {message}", file=sys.stderr)
        if context is not None:
            print(f"Try '{context.command_path} --help'.", file=sys.stderr)
    return int(getattr(error, "exit_code", 2))


if __name__ == "__main__":
    sys.exit(main())
