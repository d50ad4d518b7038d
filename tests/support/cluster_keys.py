"""Keys of routers that share a log."""

from __future__ import annotations

import base64

from router.storage.commit_log.seals import ClusterKeys
from router.storage.encryption import require_secrets_key

KEY = b"k" * 32
KEYS = ClusterKeys(KEY)
KEY_SETTING = {"FLOWHOOK_SECRETS_KEY": base64.b64encode(KEY).decode()}
"""Environment of commands that use it."""


def keys_of(directory):
    """Return the keys of the routers whose data directory this is."""
    return ClusterKeys(require_secrets_key(directory))
