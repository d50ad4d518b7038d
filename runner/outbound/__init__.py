"""Outbound connections: what components use to call other systems.

- `http_client`: sends requests, with an address policy and bounds on size and time. `bound_client`: the client of one
  call, with its credentials. `http_response`: responses, and which parts of them errors may show. `response_limits`,
  `retry_after`: details of both.
- `attachments`: finds the attachments of the request that started an execution. `request_bodies` streams them.
- `dns`, `tcp`: resolve names and open connections, for HTTP and for other protocols.

Must not live here: components, credentials (`runner.authentication` builds them), anything that is not about a call.
"""
