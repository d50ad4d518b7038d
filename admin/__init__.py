"""The admin process: health and metrics, the console and the JSON API, on a port of its own. Only a gRPC client.

- `app`: the composition root; `application`: the routes.
- `handlers`: base classes of HTTP handlers, without and with credentials.
- `status_handlers`: the metrics of processes, and readiness of the cluster (`operations.health`).
- `security/`: sessions, roles, limits, checks of Host and origin.
- `api/`: the product's `operations` as JSON over HTTP, and their OpenAPI description.
- `console/`: pages for people.

Must not live here: storage, flows, anything of the other three processes. Nothing here has rights of its own: whatever
changes the cluster is a call to the router with the token of the person or program that asked for it.
"""
