"""`call: asyncapi`, the DSL's own function: messages to a broker or server that an AsyncAPI document describes.

- `call`: fetches the document, chooses the server, and has the protocol's module send the message.
- `documents`: extracts one operation from a document of AsyncAPI 2 or 3, with the servers where it is available.
- `messages`: fills in addresses and encodes payloads; pure, like `documents`.
- `connections`: servers and their protocols; connections only to addresses that the address policy allows.
- `subscriptions`: sessions that receive messages, from one call of a subscription to the next.
- `http`, `nats`, …: one module for each protocol, which `connections.PROTOCOLS` names. They are imported on first use,
  because their libraries are optional, and take memory. Each has `publish`, and `subscribe` if it has subscriptions;
  where it uses a library, `ERRORS` that this raises, and `fault_of`, which makes errors of the DSL of them.

Source: dsl-reference.md, "AsyncAPI Call"; AsyncAPI Specification 2.6.0 and 3.0.0 (https://www.asyncapi.com/docs),
https://github.com/asyncapi/bindings.
"""
