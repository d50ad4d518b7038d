"""The supervisor of `flowhook up`: starts the processes of a local cluster, restarts them, and drains them in order.

- `process_supervisor`: one running process, and one that is restarted when it dies.
- `cluster`: runs a cluster: the order of start and drain; `cluster_spec`: the processes to start.
- `initial_flows`: applies the flows at the start; `nats_servers`, `exec_child`: the servers of a replicated log.
- `rundir`: the files that publish the state of the cluster; `progress`: what is printed.

Nothing here imports a process's code. Processes are forked by one that does (`cli.fork_server`), or, where the system
can't, started as commands that import their code in parallel; they wait for their settings (`cli.supervised`).

Invariants: no process outlives the supervisor, however it dies (see `flowhook.process.lifecycle`). What `__main__`
imports stays small: it lives as long as the cluster. A start has no deadline: a slow one is reported, and waited for.
"""

# environment variable in which `flowhook up` passes the `ClusterSpec` to the supervisor that it execs
SPEC = "FLOWHOOK_UP_SPEC"
