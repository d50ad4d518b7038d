"""The Serverless Workflow DSL, interpreted: a pure function of document, input and journal.

`program` compiles a document once, into `nodes`; `run` drives one execution of it and returns what is to be done next;
`tasks` and its kin hold the semantics of each kind of task as generators that yield `requests`. Nothing here knows
asyncio, sockets, gRPC or the clock (it is handed in), so that a replay against the journal gives the same effects in
the same order.

Invariants:
- A value that was handed out is never changed: data flows by reference between tasks.
- An effect whose result stands in the journal is never requested again; a journal that doesn't fit is a fault, not a
  guess.
- All bounds (tasks, journal entries, size of results) are kept here.

Source: Serverless Workflow 1.0, dsl.md ("Data Flow", "Runtime Expressions", "Fault Tolerance") and dsl-reference.md.
"""
