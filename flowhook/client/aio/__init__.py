"""The asyncio client, a class for each service of the router.

`hatch_build.py` generates the blocking client, `flowhook.client.sync`, from these modules: it removes `async` and
`await`, and replaces some names and phrases. So they import no asyncio; what differs otherwise is in `asyncio_calls`
and `blocking_calls`.
"""
