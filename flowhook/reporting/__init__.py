"""What processes tell the routers about themselves, and about the routers that they can reach.

It stands above the client and the conversion to protobuf; `flowhook.process` knows neither.
"""
