"""Measure the gateway beside nginx, HAProxy and an aiohttp proxy: one command, one run, one table.

Proxies run on one core, wrk and the backend on another. Every contender is loaded in turns, round
after round, and medians are printed, because machines are noisy; the column to trust is CPU time a
request (of all the proxy's processes and threads, user and system), and its ratio to nginx in the
same rounds. Requests a second are bounded by whichever core is full first.

  python -m tests.bench               the comparison, about five minutes
  python -m tests.bench --quick       one short round: a look, not a result
  python -m tests.bench keys          time to ready, memory and cost of a look-up with 1,000,000 keys
  python -m tests.bench replicas      the same on PostgreSQL, and the latency beside 1,000 changes a second
  python -m tests.bench propagation   how long changes take from commit to effect at three gateways
  python -m tests.bench idle          memory of 10,000 idle connections
  python -m tests.bench streams       the cost of judging 10,000 open event streams again while keys change
  python -m tests.bench logins        the proxy's latency while 200 people log in at once
  python -m tests.bench workers       one worker against two (or --count), on all cores together
  python -m tests.bench profile       the gateway's costliest functions under a GET (or --scenario)

Needs wrk and nginx, and HAProxy to compare with it (Debian: apt-get install wrk nginx-light haproxy).
Nothing listens but on loopback; everything is written to a temporary directory and removed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from tests.bench.machine import BenchError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one mode; return 0, or 1 when an answer was not the one expected or something is missing."""
    options = _parser().parse_args(arguments)
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    try:
        well = _run(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if not well:
        print("bench: not every answer was the one expected (see the faults): no result", file=sys.stderr)
    return 0 if well else 1


def _run(options: argparse.Namespace) -> bool:
    from tests.bench.compare import SCENARIOS, compare
    from tests.bench.contenders import CONTENDERS, missing_programs
    from tests.bench.growth import idle, keys
    from tests.bench.logins import AT_ONCE, logins
    from tests.bench.profile import profile
    from tests.bench.propagation import CHANGES, propagation
    from tests.bench.replicas import replicas
    from tests.bench.streams import streams
    from tests.bench.workers import workers

    contenders = options.only or list(CONTENDERS)
    if missing := missing_programs(contenders if options.mode == "compare" else []):
        raise BenchError(f"not installed: {', '.join(missing)} (Debian: apt-get install {' '.join(missing)})")
    rounds, seconds = (1, 1) if options.quick else (options.rounds, options.seconds)
    if options.mode == "keys":
        return keys(options.count or 1_000_000, rounds=rounds, seconds=seconds, say=_say)
    if options.mode == "replicas":
        return replicas(options.count or 1_000_000, rounds=rounds, seconds=seconds, say=_say)
    if options.mode == "propagation":
        return propagation(options.count or CHANGES, say=_say)
    if options.mode == "idle":
        return idle(options.count or 10_000, say=_say)
    if options.mode == "streams":
        return streams(options.count or 10_000, say=_say)
    if options.mode == "logins":
        return logins(options.count or AT_ONCE, rounds=rounds, seconds=seconds, say=_say)
    if options.mode == "workers":
        names = options.scenario or []
        return workers(options.count or 2, names, rounds=rounds, seconds=seconds, say=_say)
    if options.mode == "profile":
        names = options.scenario or ["get"]
        # All of them, whatever the first one says.
        return min([profile(SCENARIOS[name], seconds=seconds, say=_say) for name in names])
    scenarios = options.scenario or list(SCENARIOS)
    return compare(contenders, scenarios, rounds=rounds, seconds=seconds, say=_say)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("mode", nargs="?", default="compare", choices=_MODES)
    parser.add_argument("--quick", action="store_true", help="one round of one second")
    parser.add_argument("--rounds", type=_positive, default=3, metavar="N", help="rounds (default 3)")
    parser.add_argument("--seconds", type=_positive, default=3, metavar="S", help="of each run (default 3)")
    parser.add_argument("--only", action="append", choices=_contenders(), help="this contender; repeatable")
    parser.add_argument("--scenario", action="append", choices=_scenarios(), help="only this; repeatable")
    parser.add_argument("--count", type=_positive, metavar="N", help="how many keys, streams, logins …")
    return parser


_MODES = ["compare", "keys", "replicas", "propagation", "idle", "streams", "logins", "workers", "profile"]


def _contenders() -> list[str]:
    from tests.bench.contenders import CONTENDERS

    return list(CONTENDERS)


def _scenarios() -> list[str]:
    from tests.bench.compare import SCENARIOS

    return list(SCENARIOS)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
