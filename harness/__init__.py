"""Runs the product as processes, for tests, measurements (`bench/`) and campaigns (`chaos/`). It is not part of it.

- `site_links`, `site_files`, `site_versions`: what the site of docs/ has beside its pages.
- `cluster`: a cluster of `flowhook up`. `log_servers`: NATS servers for a replicated log.
"""
