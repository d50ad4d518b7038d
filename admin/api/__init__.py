"""The JSON API, `/api/…`: `operations` over HTTP, and their description.

- `handlers`: the HTTP handlers; errors are problem details (RFC 9457).
- `openapi`: the description, `/api/openapi.json`, made from the table of operations.

Must not live here: what operations do.
"""
