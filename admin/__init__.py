"""The admin process: health, metrics and an overview of the cluster, on a port of its own. Only a gRPC client.

- `app`: the composition root.
- `health`: readiness of the cluster and descriptions of its processes; pure.
- `host_check`: the check of the Host header; pure.
- `exposition`: the metrics of all processes as one Prometheus text.
- `handlers`: the HTTP handlers; `overview.html` is the template of the page.

Must not live here: storage, flows, anything of the other three processes. Nothing here changes the cluster.
"""
