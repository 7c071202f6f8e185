"""What may be called what: names for people, ids that travel in header lines, prefixes of tokens.

Pure functions over text; each raises ``Invalid`` with the member it was given.
"""

from __future__ import annotations

import re
import unicodedata

from gateway.control.errors import Invalid
from gateway.core.tokens import DEFAULT_PREFIX

LONGEST_NAME = 100
LONGEST_DESCRIPTION = 1000

LONGEST_EMAIL = 254
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD_BYTES = 1024

# No colon: Basic authentication ends the name there (RFC 7617 §2).
_EMAIL = re.compile(r"[^@\s:]+@[^@\s:]+")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}_")
# Controls, formats (bidi overrides among them), surrogates, private use, unassigned, line and
# paragraph separators: what would not be seen, or would change how its neighbours are seen.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Formats that scripts and emoji need: zero-width non-joiner and joiner.
_JOINERS = {"\u200c", "\u200d"}


def checked_name(text: str, *, member: str = "name") -> str:
    """Return a name in NFC, 1 to 100 characters, without control or bidi characters."""
    name = _checked_text(text, member, LONGEST_NAME)
    if not name or name != name.strip():
        raise Invalid(member, "must not be empty, nor begin or end with a space")
    return name


def checked_description(text: str, *, member: str = "description") -> str:
    """Return a description in NFC, at most 1000 characters; empty is fine."""
    return _checked_text(text, member, LONGEST_DESCRIPTION)


def checked_id(text: str, *, member: str) -> str:
    """Return an id that is safe in a header line and a path: 1 to 64 of ``A-Z a-z 0-9 . _ -``."""
    if not _ID.fullmatch(text) or text in {".", ".."}:
        raise Invalid(member, "must be 1 to 64 letters, digits, dots, underscores or hyphens")
    return text


def checked_prefix(text: str, known: set[str]) -> str:
    """Return a prefix of tokens; ``known`` are those in use.

    A prefix that begins another would leave open which of the two a token has.
    """
    if not _PREFIX.fullmatch(text):
        raise Invalid(
            "prefix", "must be 2 to 32 letters, digits and underscores, begin with a letter and end with _"
        )
    for other in sorted(known | {DEFAULT_PREFIX}):
        if text != other and (text.startswith(other) or other.startswith(text)):
            # Not which: it may be another tenant's.
            raise Invalid("prefix", "cannot be told from one that is in use: neither may begin the other")
    return text


def checked_email(text: str, *, member: str = "email") -> str:
    """Return an address in lower case and NFC, at most 254 characters, fit to log in with."""
    email = _checked_text(text, member, LONGEST_EMAIL).lower()
    if not _EMAIL.fullmatch(email):
        raise Invalid(member, "must be an address such as ann@example.com")
    return email


def checked_password(text: str, *, member: str = "password", shortest: int = SHORTEST_PASSWORD) -> str:
    """Return a password in NFC (RFC 8265), 8 characters to 1 KiB; it is never part of an error."""
    # NIST SP 800-63B §3.1.1.2: length is what counts; no rule of what it must be made of.
    if len(text) > LONGEST_PASSWORD_BYTES:
        raise Invalid(member, f"must have at most {LONGEST_PASSWORD_BYTES} bytes")
    password = unicodedata.normalize("NFC", text)
    if any(unicodedata.category(c) in {"Cc", "Cs"} for c in password):
        raise Invalid(member, "must not hold control characters")
    if len(password) < shortest:
        raise Invalid(member, f"must have at least {shortest} characters")
    if len(password.encode()) > LONGEST_PASSWORD_BYTES:
        raise Invalid(member, f"must have at most {LONGEST_PASSWORD_BYTES} bytes")
    return password


def _checked_text(text: str, member: str, longest: int) -> str:
    # Length first: normalizing a megabyte of combining marks is work a caller should not get for free.
    if len(text) > 4 * longest:
        raise Invalid(member, f"must have at most {longest} characters")
    normal = unicodedata.normalize("NFC", text)
    if len(normal) > longest:
        raise Invalid(member, f"must have at most {longest} characters")
    if any(unicodedata.category(c) in _UNSEEN and c not in _JOINERS for c in normal):
        raise Invalid(member, "must not hold control or invisible characters")
    return normal
