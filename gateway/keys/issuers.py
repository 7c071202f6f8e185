"""Keep the public keys of external issuers: fetched in the background, never while a caller waits.

One task an issuer asks for its JWK Set again and again. An issuer that is down leaves its last good
keys in force, for a day at most; one that answers is believed, also when it withdraws a key. What
is known is handed on as `TrustedIssuer` values, whole, at every change. Imports ``core`` and its own plane.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
from collections.abc import Callable, Sequence
from math import inf

import aiohttp
import msgspec

from gateway.core.envelope import TrustedIssuer
from gateway.keys.clock import boot_clock
from gateway.keys.jwks import Jwks, JwksError, read_jwks

MAXIMUM_BYTES = 256 * 1024
"""A JWK Set of twenty RSA keys with their certificate chains has about 100 KiB."""
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=\"?([0-9]{1,9})")
_NOT_KEPT = re.compile(r"(?:^|[,\s])(?:no-store|no-cache)(?:$|[,\s])")
_log = logging.getLogger("gateway.keys")

Trust = Callable[[Sequence[TrustedIssuer]], None]


class IssuerSource(msgspec.Struct, frozen=True):
    """An external issuer as it is configured: ``issuer`` without keys, and where they are."""

    issuer: TrustedIssuer
    jwks_url: str


class Timing(msgspec.Struct, frozen=True):
    """When keys are fetched; all in seconds.

    Attributes:
        refresh_s: how often, where the issuer says nothing of it.
        least_s, most_s: between these its ``Cache-Control`` is followed (RFC 9111 §5.2.2): so long
            at most does a key that it withdrew live on, while it can be reached.
        early_s: a token with an unknown key id brings a fetch forward once in this time.
        first_retry_s, last_retry_s: after a failure; doubled at each.
        within_s: a fetch must be whole.
        kept_s: the last good keys of an issuer that cannot be reached stay in force. A day, so that
            a night's outage ends no session, and whoever blocks the way to an issuer cannot keep
            a key alive that it has withdrawn.
    """

    refresh_s: float = 300.0
    least_s: float = 60.0
    most_s: float = 900.0
    early_s: float = 30.0
    first_retry_s: float = 1.0
    last_retry_s: float = 60.0
    within_s: float = 5.0
    kept_s: float = 86400.0


class FetchError(Exception):
    """An issuer's keys could not be had; one sentence without a subject."""


class Issuers:
    """The keys of all external issuers, and the tasks that keep them."""

    def __init__(
        self,
        sources: Sequence[IssuerSource],
        trust: Trust,
        *,
        timing: Timing = Timing(),  # noqa: B008  frozen
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        """``trust`` is told of all issuers, now without keys, then at every change."""
        self._trust = trust
        self._session: aiohttp.ClientSession | None = None
        self._keepers = {
            source.issuer.issuer: _Keeper(source, self._changed, timing, clock) for source in sources
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._changed()

    def start(self) -> None:
        """Begin to fetch; nothing waits for it."""
        if not self._keepers:
            return
        self._session = aiohttp.ClientSession(
            # A fetch every few minutes: a connection kept between two is a dead one.
            connector=aiohttp.TCPConnector(force_close=True, use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            # What is not unpacked cannot swell.
            auto_decompress=False,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )
        self._tasks = [
            asyncio.create_task(keeper.run(self._session), name=f"keys of {name}")
            for name, keeper in self._keepers.items()
        ]

    async def stop(self) -> None:
        """Stop fetching; what is known stays in force. Safe to call twice."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def key_missed(self, issuer: str) -> None:
        """Note that a token of ``issuer`` names a key that is not known: it may be new."""
        if issuer in self._keepers:
            self._keepers[issuer].bring_forward()

    def _changed(self) -> None:
        self._trust([keeper.issuer for keeper in self._keepers.values()])


class _Keeper:
    """Keeps the keys of one issuer.

    Attributes:
        issuer: the issuer with the keys that are in force now.
    """

    def __init__(
        self, source: IssuerSource, changed: Callable[[], None], timing: Timing, clock: Callable[[], float]
    ) -> None:
        self.issuer = source.issuer
        self._url = source.jwks_url
        self._changed = changed
        self._timing = timing
        self._clock = clock
        self._fetched_at = -inf
        self._due_at = -inf
        self._early_at = -inf
        self._failures = 0
        self._passed_over: tuple[str, ...] = ()
        self._sooner = asyncio.Event()

    def bring_forward(self) -> None:
        """Fetch soon; once in ``early_s`` at most, however often it is asked."""
        now = self._clock()
        at = max(now, self._early_at + self._timing.early_s)
        if at < self._due_at:
            self._due_at = self._early_at = at
            self._sooner.set()
        elif self._due_at <= now:  # the machine slept, and the loop's timer with it
            self._sooner.set()

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Fetch for ever."""
        while True:
            await self._fetch(session)
            while (wait_s := self._due_at - self._clock()) > 0:
                self._sooner.clear()
                # Not wait_for: before Python 3.12 it loses a cancellation that meets the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._sooner.wait()

    async def _fetch(self, session: aiohttp.ClientSession) -> None:
        try:
            content, lasts_s = await fetched(session, self._url, self._timing)
            jwks = read_jwks(content, self.issuer.algorithms)
        except FetchError as error:
            self._failed(f"{self._url} {error}")
        except JwksError as error:
            self._failed(f"what {self._url} answers {error}")
        except Exception as error:
            # A fault of ours must not end the task: the issuer's next key would never be seen.
            _log.exception("fetching the keys of %s failed and goes on", self.issuer.issuer)
            self._failed(f"internal error: {type(error).__name__}")
        else:
            self._succeeded(jwks)
            self._due_in(lasts_s)

    def _succeeded(self, jwks: Jwks) -> None:
        name = self.issuer.issuer
        if self._failures:
            _log.warning("the keys of issuer %s can be fetched again", name)
        first = self._fetched_at == -inf
        self._failures = 0
        self._fetched_at = self._clock()
        if jwks.passed_over != self._passed_over and jwks.passed_over:
            _log.warning("keys of issuer %s that are not used: %s", name, "; ".join(jwks.passed_over[:10]))
        self._passed_over = jwks.passed_over
        if not jwks.keys and (self.issuer.keys or first):
            _log.warning("issuer %s publishes no key that can be used: its tokens are refused", name)
        self._use(jwks)

    def _failed(self, sentence: str) -> None:
        name, known = self.issuer.issuer, len(self.issuer.keys)
        if not self._failures:
            meanwhile = f"{known} known ones are used meanwhile" if known else "its tokens are refused"
            _log.warning("the keys of issuer %s cannot be fetched, %s: %s", name, meanwhile, sentence)
        if known and self._clock() - self._fetched_at > self._timing.kept_s:
            _log.warning("the keys of issuer %s are too old to be used: its tokens are refused", name)
            self._use(Jwks({}))
        retry_s = self._timing.first_retry_s * 2 ** min(self._failures, 30)
        self._failures += 1
        self._due_in(min(retry_s, self._timing.last_retry_s))

    def _use(self, jwks: Jwks) -> None:
        if jwks.keys != self.issuer.keys:
            self.issuer = msgspec.structs.replace(self.issuer, keys=jwks.keys)
            self._changed()

    def _due_in(self, seconds: float) -> None:
        # Spread, so that many gateways that were started at once do not ask at once for ever.
        spread = random.uniform(0.8, 1.0)  # noqa: S311  no secret hangs on it
        self._due_at = self._clock() + seconds * spread


async def fetched(session: aiohttp.ClientSession, url: str, timing: Timing) -> tuple[bytes, float]:
    """Return what ``url`` answers, and how many seconds it may be used for. Raises FetchError.

    No redirect is followed: it would let whoever can bend one answer name another source of keys.
    """
    timeout = aiohttp.ClientTimeout(total=timing.within_s)
    try:
        async with session.get(url, allow_redirects=False, timeout=timeout) as answer:
            if 300 <= answer.status < 400:
                raise FetchError(f"redirects ({answer.status}); write the URL that it leads to")
            if answer.status != 200:
                raise FetchError(f"answers {answer.status}")
            content = bytearray()
            async for chunk in answer.content.iter_any():
                content += chunk
                if len(content) > MAXIMUM_BYTES:
                    raise FetchError(f"answers more than {MAXIMUM_BYTES} bytes")
            return bytes(content), _lasts_s(answer.headers.getall("Cache-Control", []), timing)
    except TimeoutError:
        raise FetchError(f"does not answer within {timing.within_s:g} s") from None
    except aiohttp.ClientConnectorCertificateError as error:
        raise FetchError(
            f"shows a certificate that is not trusted: {_one_line(error.certificate_error)}"
        ) from None
    except aiohttp.ClientConnectorError as error:
        raise FetchError(f"cannot be reached: {_one_line(error.os_error)}") from None
    except aiohttp.ClientError as error:
        raise FetchError(f"cannot be read: {_one_line(error)}") from None


def _lasts_s(cache_control: Sequence[str], timing: Timing) -> float:
    said = ",".join(cache_control).lower()
    if _NOT_KEPT.search(said):
        return timing.least_s
    max_age = _MAX_AGE.search(said)
    if max_age is None:
        return timing.refresh_s
    return min(max(float(max_age[1]), timing.least_s), timing.most_s)


def _one_line(error: Exception) -> str:
    """Return an error's words as one printable sentence; what the other side sent is cut short."""
    said = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or error
    words = " ".join(str(said).split()) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in words)[:200]
