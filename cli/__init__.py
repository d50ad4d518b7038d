"""The `flowhook` command: the top layer, where everything is wired.

- `commands`: one module per command or family of commands.
- `supervisor`: the local cluster of `flowhook up`; `development`: what `flowhook dev` adds to it.
- `supervised`, `applying`: entry points of the processes that the supervisor starts.
- `operation_commands`: commands that are made of operations.
- `options`, `output`: options and output formats that commands share.

Nothing imports from here.

Invariants: exit code 1 for a refused request, 2 for wrong usage (`typer.BadParameter`, which whatever reads options may
raise); errors are a few readable lines on stderr; with `--json`, stdout carries one JSON object a line and nothing
else. Commands import what they need when they run, so that `flowhook --help` stays fast.
"""
