"""The webhook pipeline: authenticates requests, parses their bodies, and answers.

- `pipeline`: the checks that a request passes, in order, before it is accepted.
- `compiled_endpoints`, `configured_responses`, `handshakes`: flows compiled for the pipeline.
- `body_parser`, `body_offload`: bodies, parsed in place or in a separate process.
- `key_cache`, `document_fetcher`, `document_session`: verification keys that are published elsewhere.
- `sender_rate_limiter`, `log_limiter`: limits.

Invariants: a 2xx is written only after the router has confirmed that the event is durable; a credential is never
stored.
"""
