"""What proves credentials for the data path of one process: signatures, cold keys, and what comes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from gateway.core.cold import VerifyKey
from gateway.core.model import KeyTable, Verify
from gateway.core.refusals import Reason
from gateway.core.sessions import VerifySignature
from gateway.core.tokens import Digester
from gateway.keys.clock import boot_clock
from gateway.keys.cold import ColdProver
from gateway.keys.digests import DigestWriter
from gateway.keys.verifier import Verifier
from gateway.observe import Observer
from gateway.store.base import Store


class Proving:
    """Proves whatever a decision asks for.

    Attributes:
        verifier: proves login tokens.
        prover: proves cold keys.
        digests: writes the digests of keys that were seen back.
    """

    def __init__(
        self, verifier: Verifier, store: Store, digester: Digester, table: KeyTable, observer: Observer
    ) -> None:
        def rotated() -> None:
            table.version += 1  # what connections remember was found under the older pepper

        self.verifier = verifier
        self.digests = DigestWriter(store, digester, rotated=rotated)
        self.prover = ColdProver(
            clock=boot_clock, proven=self.digests.proven, counted=observer.argon2_verified
        )

    def start(self, stack: contextlib.AsyncExitStack) -> None:
        """Prove until ``stack`` ends."""
        self.digests.start()
        stack.push_async_callback(self.digests.stop)
        stack.callback(self.prover.close)
        stack.callback(self.verifier.close)

    def verify(self, wanted: Verify, done: Callable[[Reason | None], None], source: str) -> bool:
        """Have a credential proven that comes from an address; False when too many wait."""
        if isinstance(wanted, VerifySignature):
            return self.verifier.verify(wanted, done)
        assert isinstance(wanted, VerifyKey)
        return self.prover.verify(wanted, done, source)
