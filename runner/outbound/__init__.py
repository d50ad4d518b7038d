"""Outbound connections: what components use to call other systems.

- `http_client`: sends requests, with an address policy and bounds on size and time. `bound_client`: the client of one
  call, with its credentials. `http_response`: responses, and which parts of them errors may show.
- `policies`: models of the DSL's authentication policies, in which the interpreter has filled in the secrets. `tokens`
  caches access tokens, and fetches new ones through the client of the call that needs one; `digest` is pure. No repr
  and no error contains a credential.
- `request_bodies`: streams the attachments of the request that started an execution.
- `dns`: resolves names and opens connections, for HTTP and for other protocols.

Must not live here: components, anything that is not about a call.
"""
