"""What every gRPC call passes: decoding, authorization, limits, audit, and the mapping of errors to statuses."""
