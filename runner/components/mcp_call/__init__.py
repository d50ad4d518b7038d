"""`call: mcp`, the DSL's own function: one request to a Model Context Protocol server.

- `call`: arguments in, the result of the JSON-RPC request out; the transport is a session of its own for each call.
- `session`: initializes the session and makes the request, with the MCP SDK. It is imported on first use, because the
  SDK is optional, and large.
- `transports`: the SDK's HTTP requests, sent by the runner's own client, under its address policy and bounds; and the
  standard streams of a server that is a process.

Source: dsl-reference.md, "MCP Call"; https://modelcontextprotocol.io/specification.
"""
