"""The webhook pipeline: authenticates requests, parses their bodies, and answers.

Invariants: a 2xx is written only after the router has confirmed that the event is durable; a credential is never
stored.
"""
