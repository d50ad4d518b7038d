"""Evaluation of expressions and schemas.

`evaluator` compiles and supervises; it runs plain programs as Python (`flowhook.expressions.plain_programs`), and with
`jq_programs` jq and JSON Schema.

`evaluator` implements `interpreter.nodes.Compiler`. `jq_programs` is also used by the processes of `runner.quarantine`,
so it imports little.
"""
