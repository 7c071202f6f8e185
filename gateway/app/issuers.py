"""Let the data path trust the external issuers that are configured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gateway.config.settings import Issuer, Settings
from gateway.core.envelope import TrustedIssuer
from gateway.keys.verifier import Verifier

if TYPE_CHECKING:
    from gateway.keys.issuers import IssuerSource


def follow_issuers(settings: Settings, verifier: Verifier, stack: contextlib.AsyncExitStack) -> None:
    """Fetch the keys of external issuers for ``verifier``, in the background, until ``stack`` ends."""
    if not settings.issuers:
        return
    # Only where there are any: it brings an HTTP client, which each worker would hold some 15 MB of.
    from gateway.keys.issuers import Issuers

    issuers = Issuers(issuer_sources(settings.issuers), verifier.trust)
    verifier.sessions.key_missed = issuers.key_missed
    issuers.start()
    stack.push_async_callback(issuers.stop)


def issuer_sources(issuers: Iterable[Issuer]) -> list[IssuerSource]:
    """Return the configured issuers as those who fetch their keys know them."""
    from gateway.keys.issuers import IssuerSource

    return [
        IssuerSource(
            TrustedIssuer(
                issuer=issuer.issuer,
                audience=issuer.audience,
                algorithms=frozenset(issuer.algorithms),
                keys={},
                tenant_claim=issuer.tenant_claim,
                role_claim=issuer.role_claim,
                roles=issuer.roles,
            ),
            issuer.jwks_url,
        )
        for issuer in issuers
    ]
