"""The client of the router: what an edge asks it, and caches of its answers."""
