"""`call: grpc`, the DSL's own function.

- `call`: arguments in, JSON out; maps gRPC statuses to errors of the DSL.
- `schemas`: descriptors of services, from a .proto that `runner.protoc` compiles in a sandbox, or from the server by
  reflection; conversion between JSON and messages.
- `channels`: connections, only to addresses that the address policy allows.

Nothing here forks: the runner's own channel lives in this process, and gRPC does not survive a fork.

Source: dsl-reference.md, "gRPC Call".
"""
