"""Chaos campaign: breaks a running cluster at random while senders use it, and then checks that its guarantees held.

- `service`: the service that flows call, which records each call. `flows`: what is sent to, and what it calls.
- `cluster`: a local cluster whose processes can be killed, stopped and started again. `faults`: what is done to it.
- `replicated_cluster`, `replicated_faults`: the same for a cluster on a replicated log. `proxies`: what is between the
  servers of the log and the routers. `peers`: whose a connection is.
- `replication`: examines the log, and the routers' views of it.
- `senders`: send events, each until it is acknowledged. `verdict`: compares them with executions and calls.
"""
