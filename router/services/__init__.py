"""The gRPC services: translation between the wire and the router's own types, and nothing else.

One module per service, named for it; `attach_reader` and `attach_writer` serve the stream of one runner.
`authorization` authorises calls. Errors of `flowhook.errors` become gRPC statuses in one place (`error_mapping`).
"""
