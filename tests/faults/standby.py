"""A PostgreSQL server that follows another one, until it is promoted."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tests.postgres import START_S, Server


class Standby(Server):
    """Begins as a copy of ``primary`` and streams what it commits."""

    def __init__(self, primary: Server) -> None:
        self._primary = primary
        super().__init__()

    def _make(self, settings: Mapping[str, str]) -> None:
        self._primary.backup(self.data)
        (self.data / "standby.signal").touch()
        # The copy has the primary's configuration; later lines win.
        self.configure(
            {
                "port": str(self.port),
                "unix_socket_directories": str(self.directory),
                "primary_conninfo": f"host={self._primary.directory} port={self._primary.port} user=postgres",
            }
            | dict(settings)
        )

    def wait_in_step(self) -> None:
        """Wait until what the primary has committed so far is here too."""
        end = self._primary.sql("SELECT pg_current_wal_lsn()")
        _wait_for(self, f"SELECT pg_last_wal_replay_lsn() >= '{end}'")

    def be_awaited(self) -> None:
        """Have the primary acknowledge no commit from now on that is not here too."""
        self._primary.configure({"synchronous_standby_names": "*"})
        self._primary.reload()
        _wait_for(self._primary, "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")

    def fall_behind(self) -> None:
        """Hear no more of the primary."""
        self.configure({"primary_conninfo": ""})
        self.reload()
        _wait_for(self, "SELECT count(*) = 0 FROM pg_stat_wal_receiver")

    def promote(self) -> None:
        """Be a primary from now on, with what is here."""
        assert self.sql("SELECT pg_promote()") == "t"
        _wait_for(self, "SELECT NOT pg_is_in_recovery()")


def _wait_for(server: Server, question: str) -> None:
    """Ask until the answer is yes."""
    deadline = time.monotonic() + START_S
    while server.sql(question) != "t":
        assert time.monotonic() < deadline, question
        time.sleep(0.02)
