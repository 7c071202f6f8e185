"""One gateway of several over one store: a real process that can be frozen, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.wire.product import COMMAND, ROOT, Product, clean_environment, free_port

PEPPER = "a pepper for gateways that are about to be tried hard"


class Replica(Product):
    """A gateway whose store is elsewhere; its ports stay the same from one start to the next."""

    def __init__(
        self,
        directory: Path,
        store_url: str,
        upstream_port: int,
        settings: Mapping[str, Any],
        *,
        flags: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port, self.ops_port = free_port(), free_port()
        self.access_log = directory / "access.log"
        self.expected_code = 0
        self.config = directory / "gateway.yaml"
        self.config.write_text(
            yaml.safe_dump(
                {
                    "listen": f"127.0.0.1:{self.port}",
                    "ops": {"listen": f"127.0.0.1:{self.ops_port}"},
                    "control": {"listen": None},
                    "store": {"url": store_url},
                    "upstreams": {"backend": {"targets": [f"http://127.0.0.1:{upstream_port}"]}},
                    "routes": [{"path": "/", "upstream": "backend"}],
                    "timeouts": {"drain_delay": "0s", "drain": "5s"},
                    "access_log": {"path": "none"},
                    **settings,
                }
            )
        )
        self._flags = list(flags)
        self._environment = {"GATEWAY_PEPPER": PEPPER, **(environment or {})}
        self.start()

    def start(self) -> None:
        """Start the process; ``wait_ready`` tells when it serves."""
        command = [*COMMAND, "run", "--config", str(self.config), *self._flags]
        with (self.directory / "stdout").open("ab") as out, (self.directory / "stderr").open("ab") as err:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=err, env=clean_environment(**self._environment), cwd=ROOT
            )

    @property
    def is_ready(self) -> bool:
        """Tell whether it says that it serves."""
        return self.process.poll() is None and self.ops("/readyz")[0] == 200

    def is_ready_or_begins_anew(self) -> bool:
        """Tell whether it says that it serves; start it if it has ended."""
        if self.process.poll() is not None:
            self.start()
        return self.is_ready

    @property
    def family(self) -> list[int]:
        """Return the ids of its processes, the first one's first."""
        found = [self.process.pid]
        for pid in found:
            try:
                found += [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            except OSError:
                continue
        return found

    def freeze(self) -> None:
        """Stop all of its processes where they stand."""
        for pid in self.family:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        for pid in self.family:
            os.kill(pid, signal.SIGCONT)

    def assert_clean(self) -> None:
        """No traceback, no warning of Python's, no secret in anything that was written."""
        for word in ("Traceback", "Exception ", "Warning:", "never awaited", PEPPER):
            assert word not in self.output, self.output
