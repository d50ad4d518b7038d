"""Model of signed tokens: `auth: {jwt: …}`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from flowhook.document.auth.base import (
    MAX_SECRETS_PER_KIND,
    MAX_TOLERANCE_SECONDS,
    AuthKind,
    Duration,
    HeaderName,
    PublicKeyText,
    SecretName,
)
from flowhook.document.codes import Code
from flowhook.document.validation import validation_error, validation_error_at

KeySetUrl = Annotated[
    str,
    Field(
        pattern=r"^(https://[^\s/?#@\\]+|http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?)([/?][^\s#\\]*)?$",
        max_length=2048,
    ),
]
"""https, or http to a loopback address, which only an edge accepts that may reach private addresses."""

SharedAlgorithm = Literal["HS256", "HS384", "HS512"]
PublicAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]
_SHARED: Final = frozenset({"HS256", "HS384", "HS512"})
_KEYS: Final = ("jwks", "public_key", "secret", "secrets")


class JwtAuth(AuthKind):
    """A token that an issuer signed. Source: RFC 7519.

    Attributes:
        jwks: URL of the issuer's public keys; the token names one of them.
        public_key: the issuer's, as PEM.
        secret: shared with the issuer, at least 32 bytes; signs with HS256 unless `algorithms` says otherwise.
        secrets: several of them, while rotating.
        audience: accepted audiences of the token.
        issuer: required issuer of the token.
        algorithms: allowed algorithms, of those that the key supports.
        header: header with the token; in `Authorization` it follows `Bearer`.
        leeway: maximum difference between the issuer's clock and the local one, in seconds; at most 7 days.
    """

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [name]} for name in _KEYS]})

    kind: ClassVar[str] = "jwt"

    jwks: KeySetUrl | None = None
    public_key: PublicKeyText | None = None
    secret: SecretName | None = None
    secrets: Annotated[tuple[SecretName, ...], Field(min_length=1, max_length=MAX_SECRETS_PER_KIND)] | None = None
    audience: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=16)] | None = None
    issuer: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    algorithms: Annotated[tuple[SharedAlgorithm | PublicAlgorithm, ...], Field(min_length=1)] | None = None
    header: HeaderName = "Authorization"
    leeway: Annotated[Duration, Field(le=MAX_TOLERANCE_SECONDS)] = 60.0

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if sum(getattr(self, name) is not None for name in _KEYS) != 1:
            raise validation_error(
                Code.KEY_CONFLICT,
                "needs one of `jwks: URL`, `public_key: PEM`, `secret: NAME` and `secrets: [NAME, …]`",
            )
        if self.jwks is not None and (self.audience is None or self.issuer is None):
            cause = "`jwks` needs `audience` and `issuer`: the issuer's keys sign tokens for other services, too"
            raise validation_error(Code.KEY_MISSING, cause)
        other = [name for name in self.algorithms or () if (name in _SHARED) != bool(self.secret_names)]
        if other:
            cause = f"{', '.join(other)} can't be used with this kind of key"
            raise validation_error_at((("algorithms",), Code.VALUE_CHOICE, cause))
        return self

    @property
    def secret_names(self) -> tuple[str, ...]:
        """See `AuthKind`; none where keys are public."""
        return self.secrets or ((self.secret,) if self.secret else ())

    @property
    def public_values(self) -> tuple[tuple[str, bytes], ...]:
        """See `AuthKind`."""
        return () if self.public_key is None else (("public_key", self.public_key.encode()),)

    @property
    def audiences(self) -> tuple[str, ...]:
        """Accepted audiences of the token; empty: it must name no audience."""
        return (self.audience,) if isinstance(self.audience, str) else self.audience or ()
