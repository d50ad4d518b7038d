"""Interpreter for the Open Workflow DSL: a pure function of document, input and journal.

`program` compiles a document once, into `nodes`. `execution_machine` drives one execution and returns the effects to
perform next. `tasks` executes them as generators that yield `requests`; `HANDLERS` is the table of the functions that
execute each kind of task.
Nothing here uses asyncio, sockets or gRPC, and the clock is passed in. A replay against the journal therefore yields
the same effects in the same order.

Invariants:
- A value is never changed once it was passed on: tasks share data by reference.
- An effect whose result is in the journal is never requested again. A journal that does not match the flow is a fault;
  the interpreter never guesses.
- All limits (tasks, journal entries, size of results) are enforced here.

Source: Open Workflow 1.0, dsl.md ("Data Flow", "Runtime Expressions", "Fault Tolerance") and dsl-reference.md.
"""
