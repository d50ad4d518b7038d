"""The Python client of a Flowhook cluster, for services inside it: no HTTP, no signatures, a token.

`Client` blocks, `AsyncClient` is for asyncio; both speak `flowhook.v1` over gRPC and raise `flowhook.errors`.
`channel` opens the channels that the cluster's own processes use.
"""
