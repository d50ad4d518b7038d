"""Who may call a webhook: the `auth` key of a flow file (DESIGN, "Flow file").

`auth` is `none`, one kind, or a list of kinds of which any one that passes will do. A kind is a mapping with one key,
its name: `{github: {secret: NAME}}`. That of a callback may also be `one_time_url`. The kinds hold what an author
wrote, checked; what to do about it is `flowhook.signatures`. No kind holds the value of a secret, only names.
"""

from flowhook.document.auth.base import (
    AuthKind,
    Duration,
    HeaderName,
    PublicKeyText,
    SecretAuth,
    SecretName,
    duration,
    refused,
    refused_at,
)
from flowhook.document.auth.parsing import KINDS, Auth, CallbackAuth, parse_auth
from flowhook.document.auth.providers import ProviderAuth, provider
from flowhook.document.auth.shared import ApiKeyAuth, BasicAuth, MtlsAuth, OneTimeUrlAuth
from flowhook.document.auth.spelled_out import (
    HmacAuth,
    IdSource,
    KeyReading,
    PublicKeyAuth,
    SpelledOut,
    TimestampSource,
)
from flowhook.document.auth.tokens import JwtAuth

__all__ = [
    "KINDS",
    "ApiKeyAuth",
    "Auth",
    "AuthKind",
    "BasicAuth",
    "CallbackAuth",
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
    "SpelledOut",
    "TimestampSource",
    "duration",
    "parse_auth",
    "provider",
    "refused",
    "refused_at",
]
