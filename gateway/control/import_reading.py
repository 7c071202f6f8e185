"""Hold each line of an import against what the gateway knows: tenants, roles, what earlier lines said.

Pure but for what it remembers of the lines before. Imports ``core`` and its own plane.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from gateway.control.import_lines import LARGEST_LINE, Line, LineError, parse_line
from gateway.control.lifetime import expiry
from gateway.control.names import checked_description, checked_name
from gateway.core.model import Role
from gateway.core.policy import KeyPolicy
from gateway.core.tokens import LOCATOR_DIGITS

LENGTHS_MAX = 8
"""Lengths of locators besides our own: each costs every unknown token a look-up while a key is cold."""
_ID_CHARACTERS = len("apk_") + 36


class Candidate(msgspec.Struct, frozen=True):
    """One line that may become a key; its ``repr`` keeps it. ``digests`` are the token's, by pepper."""

    number: int
    line: Line
    role: Role
    name: str
    description: str
    intended_use: str | None
    expires_at: int
    digests: Mapping[str, bytes]

    def __repr__(self) -> str:
        return f"Candidate({self.number})"


class Reading:
    """Reads the lines of one pass."""

    def __init__(
        self,
        *,
        policies: Mapping[str, KeyPolicy],
        environments: Collection[tuple[str, str]],
        prefixes: Sequence[str],
        role: Callable[[str], Role],
        digests: Callable[[bytes], Mapping[str, bytes]],
        lengths: Collection[int],
        weak: bool,
    ) -> None:
        """Take what is in effect for each tenant, tenants' environments, the prefixes of our own tokens,

        what finds a role and what digests a token, and how long the locators are that are there.
        ``weak``: a token may be so short that it can be guessed.
        """
        self._policies = policies
        self._environments = environments
        self._prefixes = tuple(prefixes)
        self._role = role
        self._digests = digests
        self._own_lengths = {len(prefix) + LOCATOR_DIGITS for prefix in prefixes}
        self._own_lengths |= {_ID_CHARACTERS, len(no_locator("")) + _ID_CHARACTERS}
        self._lengths = set(lengths) - self._own_lengths
        self._weak = weak
        self._seen: set[bytes | str] = set()

    def candidate(self, number: int, content: bytes, now_ms: int) -> Candidate:
        """Return what a line says, checked as far as can be without the store. Raises LineError, Invalid."""
        if len(content) > LARGEST_LINE:
            raise LineError(f"is longer than {LARGEST_LINE} bytes")
        line = parse_line(content, self._prefixes, weak=self._weak)
        said = line.said
        policy = self._policy(said["tenantId"], said.get("environmentId"))
        intended_use = said.get("intendedUse")
        candidate = Candidate(
            number=number,
            line=line,
            role=self._role(said["permission"]),
            name=checked_name(said["name"]),
            description=checked_description(said.get("description", "")),
            intended_use=checked_name(intended_use, member="intendedUse") if intended_use else None,
            expires_at=expiry(
                now_ms, ttl=None, expires_at=said["expiresAt"], maximum=policy.max_api_key_expiry
            ),
            digests=self._digests(line.token.encode()) if line.token is not None else {},
        )
        self._check_new(candidate)
        return candidate

    def _policy(self, tenant_id: str, environment_id: str | None) -> KeyPolicy:
        policy = self._policies.get(tenant_id)
        if policy is None:
            raise LineError("tenantId names no tenant: add it first")
        if not policy.api_keys_enabled:
            raise LineError("the API keys of its tenant are switched off: enable them first")
        if environment_id is not None and (tenant_id, environment_id) not in self._environments:
            raise LineError("environmentId names no environment of its tenant: add it first")
        return policy

    def _check_new(self, candidate: Candidate) -> None:
        """Raise LineError for what an earlier line has said, and for a locator of one length too many."""
        locator = candidate.line.locator
        own: list[bytes | str] = list(candidate.digests.values())
        if locator is not None:
            own.append(locator)
        for each in own:
            if each in self._seen:
                raise LineError(
                    f"has the {'locator' if isinstance(each, str) else 'token'} of an earlier line"
                )
        if locator is not None and len(locator) not in self._own_lengths | self._lengths:
            if len(self._lengths) >= LENGTHS_MAX:
                known = ", ".join(map(str, sorted(self._lengths)))
                raise LineError(
                    f"locator has {len(locator)} characters, and locators of {LENGTHS_MAX} other lengths are"
                    f" there already ({known})"
                )
            self._lengths.add(len(locator))
        self._seen.update(own)


def no_locator(key_id: str) -> str:
    """Return what stands for the locator of a key of which none is known: no token's beginning."""
    return f"none:{key_id}"
