"""Development on one machine (`flowhook dev`): follows flow files, prints what arrives, and opens a tunnel.

- `watched_flows`: applies flow files whenever they change.
- `arrivals`: prints what arrives, and what becomes of it.
- `tunnel`: a program that makes the edges reachable from the internet.

All of it runs in the process of the supervisor, which is not small then: it has a client of the router.
"""
