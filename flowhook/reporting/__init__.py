"""Periodic reports of processes to the routers: health, metrics, and which routers they can reach.

It stands above the client and the conversion to protobuf; `flowhook.process` knows neither.
"""
