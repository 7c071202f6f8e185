"""What is remembered of every request: metrics and the access log.

The data path hands over one ``Outcome`` a request; ``Observer.record`` counts it in plain integers
(read by a collector only when somebody scrapes) and, where an access log is wanted, puts it in a
batch that is formatted and written later. Credentials never reach this room. Imports ``core`` only.
"""

from gateway.observe.access_log import AccessLog, open_access_log
from gateway.observe.metrics import GatewayCollector, Gauges, make_registry, registry_of
from gateway.observe.observer import Observer
from gateway.observe.outcome import Outcome
from gateway.observe.totals import Family, Totals, families_of

__all__ = [
    "AccessLog",
    "Family",
    "GatewayCollector",
    "Gauges",
    "Observer",
    "Outcome",
    "Totals",
    "families_of",
    "make_registry",
    "open_access_log",
    "registry_of",
]
