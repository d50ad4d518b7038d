"""The product's verbs, for operators: functions over the router's client, and the table that lists them.

A page of the console, its twin in the API and the command call the same function. `table.OPERATIONS` names every
function with the path that it has in the API, from which the API's routes, its OpenAPI description, and the actions of
forms are made.

- `operation`: an operation, and how its parameters are read. `encoding`: results as JSON, and their schemas.
- `flows`, `executions`, `execution_list`, `jobs`, `logs`, `secrets`, `cluster`: the functions, and what they take
  and return.
- `table`: all operations.
- `search`, `comparison`, `diagram`, `provider_setup`, `health`: what operators are told that takes
  more than a call of the router.

Must not live here: HTTP, HTML, sessions, what only senders' requests or executions need.
"""
