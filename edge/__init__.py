"""The edge: the only code that speaks HTTP to senders. Stateless; any number of edges share one port.

`http` holds connections, requests and responses, and knows no flows; `webhook` the pipeline; `router` the client of the
router.
"""
