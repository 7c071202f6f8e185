"""Count what happened, as cheaply as Python can: integers in dicts, read only at a scrape.

Runs on the event loop alone. Imports ``core`` and the access log it feeds.

Promise: the number of series is bounded by the configuration, never by what callers send: a method
that is not a registered one counts as ``other``, and no path, host or key is ever a label.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from gateway.core.refusals import Reason
from gateway.observe.access_log import AccessLog
from gateway.observe.outcome import Outcome

# Upper bounds in seconds. Below 1 ms because the gateway's own share is microseconds.
DURATION_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
# The promise is 300 s, the usual figure well below one second.
PROPAGATION_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0)

# What a blocked event loop adds to every answer; it is noticed once in each 100 ms.
LAG_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

# RFC 9110 §9, RFC 5789 and the WebDAV family (RFC 4918, 3253, 3648, 3744, 5323, 5842, 4791).
KNOWN_METHODS = frozenset(
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH QUERY PROPFIND PROPPATCH MKCOL COPY MOVE LOCK "
    b"UNLOCK ACL BIND UNBIND REBIND CHECKOUT MERGE MKACTIVITY MKCALENDAR REPORT SEARCH LINK UNLINK "
    b"PURGE".split()
)
OTHER_METHOD = b"other"

# Every upstream has these at zero from the start; they are the words of three reasons, less "upstream_".
UPSTREAM_ERROR_KINDS = ("unreachable", "timeout", "protocol_error")
# Why what is under way is ended; these are there at zero from the start.
ENDING_REASONS = (
    Reason.KEY_REVOKED,
    Reason.KEY_EXPIRED,
    Reason.KEY_UNKNOWN,
    Reason.TOKEN_INVALID,
    Reason.TOKEN_EXPIRED,
    Reason.HOLDER_DISABLED,
    Reason.PERMISSION_DENIED,
    Reason.ROUTE_DENIED,
    Reason.KEY_TABLE_STALE,
    Reason.OVERLOADED,
)

# What came of a token that argon2id had to be asked about: it was the key's, it was not, nobody found out.
ARGON2_RESULTS = ("ok", "failed", "refused")

RequestLabels = tuple[str, bytes, int]


class Histogram:
    """Observations by upper bound; ``counts`` has one place more, for what exceeds every bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one observation; a value equal to a bound belongs to it, as Prometheus has it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Observer:
    """The counters of one process, and the door to its access log.

    Attributes are read by the collector; ``record`` is the only writer on the hot path.
    """

    __slots__ = (
        "access_log",
        "argon2",
        "config_loaded_at",
        "durations",
        "ended",
        "lag",
        "propagation",
        "rejections",
        "requests",
        "upstream_durations",
        "upstream_errors",
    )

    def __init__(self, access_log: AccessLog | None = None) -> None:
        """Start at zero, with every reason already a series; ``access_log`` None costs nothing."""
        self.access_log = access_log
        self.requests: dict[RequestLabels, int] = {}
        self.durations: dict[str, Histogram] = {}
        self.rejections: dict[str, int] = dict.fromkeys((reason.value for reason in Reason), 0)
        self.ended: dict[str, int] = dict.fromkeys((reason.value for reason in ENDING_REASONS), 0)
        self.upstream_durations: dict[str, Histogram] = {}
        self.upstream_errors: dict[tuple[str, str], int] = {}
        self.propagation = Histogram(PROPAGATION_BOUNDS)
        self.lag = Histogram(LAG_BOUNDS)
        self.argon2: dict[str, int] = dict.fromkeys(ARGON2_RESULTS, 0)
        self.config_loaded_at = 0.0

    def configured(self, routes: Iterable[str], upstreams: Iterable[str], at: float) -> None:
        """Say what is configured since ``at`` (epoch seconds), so that its series exist at zero."""
        for route in routes:
            self.durations.setdefault(route, Histogram(DURATION_BOUNDS))
        for upstream in upstreams:
            self.upstream_durations.setdefault(upstream, Histogram(DURATION_BOUNDS))
            for kind in UPSTREAM_ERROR_KINDS:
                self.upstream_errors.setdefault((upstream, kind), 0)
        self.config_loaded_at = at

    def record(self, outcome: Outcome) -> None:
        """Count one finished request and queue its log line. Well under a microsecond without a log."""
        route = outcome.route
        labels = (route, outcome.method, outcome.status)
        if labels in self.requests:
            self.requests[labels] += 1
        else:
            self._count_first(labels)
        histogram = self.durations.get(route) or self._new(self.durations, route)
        duration_s = outcome.duration_s
        histogram.counts[bisect_left(DURATION_BOUNDS, duration_s)] += 1
        histogram.total += duration_s
        upstream_s = outcome.upstream_s
        if upstream_s is not None:
            upstream = outcome.upstream
            histogram = self.upstream_durations.get(upstream) or self._new(self.upstream_durations, upstream)
            histogram.counts[bisect_left(DURATION_BOUNDS, upstream_s)] += 1
            histogram.total += upstream_s
        reason = outcome.reason
        if reason is not None and reason in self.rejections:
            self.rejections[reason] += 1
        if self.access_log is not None:
            self.access_log.add(outcome)

    def upstream_error(self, upstream: str, kind: str) -> None:
        """Count a failure of an upstream; ``kind`` one of ``UPSTREAM_ERROR_KINDS`` or another fixed word."""
        labels = (upstream, kind)
        self.upstream_errors[labels] = self.upstream_errors.get(labels, 0) + 1

    def exchange_ended(self, reason: Reason) -> None:
        """Count an exchange that was ended because what let it in would not do so any more."""
        self.ended[reason.value] = self.ended.get(reason.value, 0) + 1

    def propagated(self, seconds: float) -> None:
        """Note how long a change took from its commit to being visible here, on the store's clock."""
        self.propagation.add(seconds)

    def argon2_verified(self, result: str) -> None:
        """Count what came of a cold key's proof; ``result`` one of ``ARGON2_RESULTS``."""
        self.argon2[result] += 1

    def lagged(self, seconds: float) -> None:
        """Note how late the event loop came to its regular work."""
        self.lag.add(seconds)

    def _count_first(self, labels: RequestLabels) -> None:
        route, method, status = labels
        if method not in KNOWN_METHODS:
            labels = (route, OTHER_METHOD, status)
        self.requests[labels] = self.requests.get(labels, 0) + 1

    @staticmethod
    def _new(family: dict[str, Histogram], label: str) -> Histogram:
        return family.setdefault(label, Histogram(DURATION_BOUNDS))
