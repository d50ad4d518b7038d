"""The client of the router: what an edge asks it, and caches of its answers.

- `client`: the router's services as the edge uses them.
- `flow_cache`, `flow_existence`: the flows that the edge knows, which follow the router's registry.
- `ingest`: batches of events.
- `replies`: requests that are held until their flow responds.
- `body_uploads`: large bodies, streamed to the router's disk.
- `rejections`: reports of refused requests.
"""
