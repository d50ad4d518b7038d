"""The admin process: health, metrics and an overview of the cluster, on a port of its own. A gRPC client, no more.

- `app`: wires and serves.
- `health`: what is asked of the router, and whether the cluster is ready; pure.
- `hosts`: by which names it may be called; pure.
- `exposition`: the metrics of all processes as one Prometheus text.
- `handlers`: the HTTP side; `overview.html` is its page.

Must not live here: storage, flows, anything of the other three processes. Nothing here changes the cluster.
"""
