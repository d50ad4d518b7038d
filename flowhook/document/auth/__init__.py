"""Models of the `auth` key: who may call a webhook (docs/flow-file.md).

`auth` is `none`, one kind, or a list of kinds of which any one has to pass. A kind is a mapping with one key, its name:
`{github: {secret: NAME}}`. For a callback, `auth` may also be `one_time_url`. The models hold the validated settings;
`flowhook.signatures` verifies requests by them. No model holds the value of a secret, only names.
"""

from flowhook.document.auth.base import (
    AuthKind,
    Duration,
    HeaderName,
    PublicKeyText,
    SecretAuth,
    SecretName,
    positive_duration,
)
from flowhook.document.auth.basic_auth import ApiKeyAuth, BasicAuth, MtlsAuth, OneTimeUrlAuth
from flowhook.document.auth.custom_signature import (
    CustomSignature,
    HmacAuth,
    IdSource,
    KeyReading,
    PublicKeyAuth,
    TimestampSource,
)
from flowhook.document.auth.parsing import KINDS, Auth, CallbackAuth, parse_auth
from flowhook.document.auth.providers import ProviderAuth, provider
from flowhook.document.auth.tokens import JwtAuth

__all__ = [
    "KINDS",
    "ApiKeyAuth",
    "Auth",
    "AuthKind",
    "BasicAuth",
    "CallbackAuth",
    "CustomSignature",
    "Duration",
    "HeaderName",
    "HmacAuth",
    "IdSource",
    "JwtAuth",
    "KeyReading",
    "MtlsAuth",
    "OneTimeUrlAuth",
    "ProviderAuth",
    "PublicKeyAuth",
    "PublicKeyText",
    "SecretAuth",
    "SecretName",
    "TimestampSource",
    "parse_auth",
    "positive_duration",
    "provider",
]
