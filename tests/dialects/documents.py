"""The gateway that the documents' clients find: behind the documents' hosts, at a sample's instant."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import trustme

from tests.dialects.client import Answer, cookie_of
from tests.dialects.harness import Person, World
from tests.wire.client import parse_head

HOSTS = ("users.cqloud.com", "login.cqloud.com", "your-tenant.us.qlikcloud.com", "api.example.com")


class Documents(World):
    """The gateway that the documents' clients find behind the documents' hosts."""

    def __init__(self, directory: Path, backend_port: int, at: str) -> None:
        authority = trustme.CA()
        pair = authority.issue_cert(*HOSTS, "127.0.0.1")
        directory.mkdir(parents=True, exist_ok=True)
        self.ca = directory / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        cert, key = directory / "cert.pem", directory / "key.pem"
        pair.private_key_pem.write_to_path(str(key))
        for blob in pair.cert_chain_pems:
            blob.write_to_path(str(cert), append=True)
        super().__init__(
            directory,
            backend_port,
            {
                "control": {"tls": {"cert": str(cert), "key": str(key)}},
                "login": {"cookie_domain": "cqloud.com"},
            },
            _clock_at(at),
        )

    def curl(self, *arguments: str) -> Answer:
        """Run curl and return the response that it shows."""
        where = ["--connect-to", f"media-sites.cqloud.com:80:127.0.0.1:{self.proxy_port}"]
        for host in HOSTS:
            where += ["--connect-to", f"{host}:443:127.0.0.1:{self.port}"]
        run = subprocess.run(
            ["curl", "-sS", "-i", "--noproxy", "*", "--cacert", str(self.ca), *where, *arguments],
            capture_output=True,
            timeout=20,
            check=False,
        )
        assert run.returncode == 0, run.stderr.decode()
        head, _, body = run.stdout.partition(b"\r\n\r\n")
        parsed = parse_head(head + b"\r\n\r\n")
        fields = [(name.decode(), value.decode("latin-1")) for name, value in parsed.fields]
        return Answer(parsed.status, fields, body)

    def token(self, person: Person) -> str:
        """Log in by curl, as 002 does, and return the token."""
        answer = self.curl("-u", f"{person.email}:{person.password}", "https://login.cqloud.com/login")
        token = cookie_of(answer.expect(302)).value
        self.keep_secret(token.rpartition(".")[2])
        return token


def _clock_at(instant: str) -> dict[str, str]:
    """Return the environment in which a process's wall clock stands at an instant of UTC."""
    if shutil.which("faketime") is None:
        why = "these tests set the gateway's clock by faketime, which is not installed"
        assert os.environ.get("CI") != "true", why
        pytest.skip(why)
    found = subprocess.run(
        ["faketime", "-m", "-f", "+0s", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True
    )
    return {
        "LD_PRELOAD": found.stdout.strip(),
        "TZ": "UTC",
        "FAKETIME": instant,
        # The interpreter waits for its lock by the monotonic clock; a wait that is "fixed" comes too late.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }
