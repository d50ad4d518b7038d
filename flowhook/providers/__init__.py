"""The providers whose webhooks Flowhook authenticates: one row each, from which everything else is derived.

- `table`: the rows. Add a provider here.
- `scheme`: what a row contains, as data: the signature scheme and its signed content, the delivery ID, the handshake.
- `sample_files`: events of the providers for tests, from the files of `samples`.

`flowhook.document.models.auth` derives the keys of `auth` from a row, `flowhook.signatures` verifies and signs by it,
and `edge.webhook.handshakes` answers its handshake. Nothing here knows flow files, secrets or requests.
"""

from flowhook.providers.scheme import Handshake, Provider
from flowhook.providers.table import PROVIDERS

__all__ = ["PROVIDERS", "Handshake", "Provider"]
