"""Expressions of flow files: jq programs, as the DSL specifies.

- `syntax`: the `${ }` syntax that marks a string as an expression.
- `paths`: the small subset of jq that runs outside a runner's child process, compiled to plain Python.
- `plain_programs`: a larger one, compiled to Python closures that leave rare values to jq.
- `jq_check`: the static check of whole programs, with corrections for those that do not compile.

Nothing here ever runs a jq program of a flow: it may never end, and the jq binding holds the GIL while it runs. Only
the runner's guarded child process does, and for `webhook.accept` those of an edge.
"""
