"""A real nginx as the backend: the ``server`` block of a document, on a port of the test's own."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from tests.deploy.manifests import program
from tests.wire.product import free_port

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """nginx with one configuration, from its start to its graceful end (SIGQUIT, as its images do)."""

    def __init__(self, directory: Path, configuration: str) -> None:
        self.directory = directory
        (directory / "nginx.conf").write_text(configuration)
        # Workers of a master that is root are somebody else, who may not write here.
        options = "daemon off;" + ("user root;" if os.geteuid() == 0 else "")
        command = [program("nginx"), "-p", directory, "-c", directory / "nginx.conf", "-g", options]
        with (directory / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(command, stderr=stderr)

    @classmethod
    def serving(cls, directory: Path, server: str) -> tuple[Nginx, int]:
        """Start nginx with ``server`` on a free port instead of 9000, and return both."""
        port = free_port()
        paths = "".join(f"{kind}_temp_path {directory}/{kind};" for kind in TEMPORARY)
        http = f"http {{ access_log {directory}/access.log; {paths} {server} }}"
        text = f"pid {directory}/pid; error_log stderr; events {{}} {http}".replace(
            "127.0.0.1:9000", f"127.0.0.1:{port}"
        )
        nginx = cls(directory, text)
        nginx.wait_for(port)
        return nginx, port

    def wait_for(self, port: int) -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.directory / "stderr").read_text()
                assert time.monotonic() < deadline, "nginx does not listen"
                time.sleep(0.02)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
