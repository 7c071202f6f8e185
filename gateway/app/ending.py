"""How an operator ends a gateway: by signals, the first one politely, the second at once."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

_log = logging.getLogger("gateway.app")


class Ending:
    """What the signals asked for so far, on the running loop.

    Attributes:
        asked: somebody wants the gateway to end.
        asked_again: at once.
        delay_s: for how many seconds connections are still to be accepted.
    """

    def __init__(self, delay_s: float) -> None:
        """Take the delay that SIGTERM asks for; SIGINT skips it."""
        self.asked = asyncio.Event()
        self.asked_again = asyncio.Event()
        self.delay_s = delay_s
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    def _on_hangup(self) -> None:
        """Take SIGHUP for what it is: the end of a terminal, or somebody's wish for a reload."""
        if sys.stderr.isatty() or sys.stdin.isatty():
            self._on_signal(signal.SIGINT)
        else:
            _log.warning("SIGHUP changes nothing: start anew to read the configuration again")

    def _on_signal(self, number: signal.Signals) -> None:
        """Take a signal to end: SIGINT skips the delay, the second one ends at once."""
        if self.asked.is_set():
            self.asked_again.set()
        elif number == signal.SIGINT:
            self.delay_s = 0.0
        self.asked.set()
