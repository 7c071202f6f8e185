"""What a tenant's keys are held to: the gateway's own policy, and what a tenant says instead.

Pure values; imports nothing of the project.
"""

from __future__ import annotations

import msgspec

MOST_KEYS_PER_USER = 1000


class KeyPolicy(msgspec.Struct, frozen=True):
    """The settings of keys that are in effect, for one tenant or for all that set nothing of their own.

    Attributes:
        api_keys_enabled: False: no key is made, and existing ones are refused until it is True again.
        max_keys_per_user: how many active keys may have the same user at the root of their lineage.
        max_api_key_expiry: the longest that a key may live, a duration; new keys only.
        scim_client_expiry: how long the key of an external client lives, a duration.
    """

    api_keys_enabled: bool = True
    max_keys_per_user: int = 100
    max_api_key_expiry: str = "P1Y"
    scim_client_expiry: str = "P365D"


DEFAULT_POLICY = KeyPolicy()
