"""PostgreSQL over TLS: whom the gateway trusts, and how it shows who it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from gateway.store.base import StoreError
from gateway.store.urls import open_store
from tests.postgres import PASSWORD, USER, Server, migrated

# Whoever comes in clear is turned away; one database asks for a certificate instead of a password.
_ACCESS = """
local all all trust
hostssl by_certificate all 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
"""


class Secured:
    """A server that speaks TLS alone, and the files of those who connect."""

    def __init__(self, directory: Path) -> None:
        self.authority, other = trustme.CA(), trustme.CA()
        self.ca, self.other_ca = directory / "ca.pem", directory / "other.pem"
        self.authority.cert_pem.write_to_path(self.ca)
        other.cert_pem.write_to_path(self.other_ca)
        own = self.authority.issue_cert(common_name=USER)
        self.cert, self.key = directory / "own.pem", directory / "own.key"
        own.cert_chain_pems[0].write_to_path(self.cert)
        own.private_key_pem.write_to_path(self.key)
        self.server = Server({"fsync": "off"})
        self._secure()
        for name in ("by_password", "by_certificate"):
            self.server.create_database(name)
        migrated(f"{self.server.url('by_password')}?sslmode=verify-full&sslrootcert={self.ca}")

    def _secure(self) -> None:
        shown = self.authority.issue_cert("127.0.0.1")
        for name, content in [
            ("server.crt", shown.cert_chain_pems[0].bytes()),
            ("server.key", shown.private_key_pem.bytes()),
            ("ca.crt", self.ca.read_bytes()),
            ("pg_hba.conf", _ACCESS.encode()),
        ]:
            self.server.write(name, content)
        self.server.configure({"ssl": "on", "ssl_ca_file": "ca.crt"})
        self.server.restart()

    def url(self, database: str = "by_password", password: str = PASSWORD, **parameters: object) -> str:
        said = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"{self.server.url(database, password=password)}?{said}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    found = Secured(tmp_path_factory.mktemp("tls"))
    yield found
    found.server.close()


async def connect(url: str) -> int:
    store = open_store(url)
    try:
        return len(await store.tenants())
    finally:
        await store.close()


async def test_a_server_is_trusted_by_its_authority_and_its_name(secured: Secured) -> None:
    for mode in ("require", "verify-ca", "verify-full"):
        assert await connect(secured.url(sslmode=mode, sslrootcert=secured.ca)) == 1
    assert await connect(secured.url()) == 1


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"sslmode": "verify-full", "sslrootcert": "OTHER"}, "its certificate is not trusted"),
        ({"sslmode": "require", "sslrootcert": "OTHER"}, "its certificate is not trusted"),
        ({"sslmode": "disable"}, "no encryption"),
        ({"sslmode": "verify-ca", "sslrootcert": "/nowhere/ca.pem"}, "no such file or directory"),
    ],
)
async def test_whom_it_does_not_trust_it_does_not_tell_its_password(
    secured: Secured, parameters: dict[str, str], says: str
) -> None:
    said = {name: str(secured.other_ca) if value == "OTHER" else value for name, value in parameters.items()}
    with pytest.raises(StoreError) as refused:
        await connect(secured.url(**said))
    assert says in str(refused.value)
    assert PASSWORD not in str(refused.value)


async def test_another_name_than_the_certificates_is_not_the_server_that_was_meant(secured: Secured) -> None:
    url = secured.url(sslmode="verify-full", sslrootcert=secured.ca).replace("127.0.0.1", "localhost")
    with pytest.raises(StoreError, match="its certificate is not trusted"):
        await connect(url)
    assert await connect(url.replace("verify-full", "verify-ca")) == 1


async def test_a_certificate_stands_for_a_password(secured: Secured) -> None:
    trusting = {"sslmode": "verify-full", "sslrootcert": secured.ca}
    own = {"sslcert": secured.cert, "sslkey": secured.key}
    assert migrated(secured.url("by_certificate", "", **trusting, **own))
    assert await connect(secured.url("by_certificate", "", **trusting, **own)) == 1
    with pytest.raises(StoreError, match="certificate"):
        await connect(secured.url("by_certificate", "", **trusting))
