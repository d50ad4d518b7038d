"""`call: grpc`, the DSL's own function.

- `call`: arguments in, JSON out; what gRPC's statuses are in the DSL's terms is in `statuses`.
- `schemas`: what a service is made of, from a .proto that `compiler` compiles, or from the server by `reflection`.
- `messages`: JSON to messages and back.
- `channels`: connections, dialled to addresses that the policy was asked about.

Nothing here forks: the runner's own channel lives in this process, and gRPC does not survive a fork.

Source: dsl-reference.md, "gRPC Call".
"""
