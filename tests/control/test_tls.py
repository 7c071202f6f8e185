"""A listener shows the certificate that its files hold now, and never half of a new one."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.control.tls import ServerTls, TlsFilesError, server_context

CA = trustme.CA()
OTHER_CA = trustme.CA()
FIRST, SECOND = CA.issue_cert("localhost"), CA.issue_cert("localhost")


class Files:
    """The two files as an operator keeps them."""

    def __init__(self, directory: Path) -> None:
        self.cert, self.key = directory / "tls.crt", directory / "tls.key"

    def write(self, cert: bytes | None = None, key: bytes | None = None) -> None:
        for path, content in ((self.cert, cert), (self.key, key)):
            if content is not None:
                new = path.with_suffix(".new")
                new.write_bytes(content)
                os.replace(new, path)

    def hold(self, leaf: trustme.LeafCert) -> None:
        self.write(chain_of(leaf), key_of(leaf))

    def server(self) -> ServerTls:
        return ServerTls(str(self.cert), str(self.key), poll_s=0.01)


def chain_of(leaf: trustme.LeafCert) -> bytes:
    return b"".join(blob.bytes() for blob in leaf.cert_chain_pems)


def key_of(leaf: trustme.LeafCert) -> bytes:
    return leaf.private_key_pem.bytes()


def serial_of(leaf: trustme.LeafCert) -> int:
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path)
    files.hold(FIRST)
    return files


@asynccontextmanager
async def serving(tls: ServerTls) -> AsyncIterator[int]:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    tls.start()
    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=tls.context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        await tls.stop()


async def seen(port: int, *, name: str | None = "localhost", **limits: ssl.TLSVersion) -> tuple[int, str]:
    """Shake hands as a client that trusts the CA; return the certificate's serial number and the version."""
    context = ssl.create_default_context()
    CA.configure_trust(context)
    for limit, version in limits.items():
        setattr(context, limit, version)
    if name is None:
        context.check_hostname = False
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name or "")
    connection = writer.get_extra_info("ssl_object")
    assert await reader.read() == b"hello"
    writer.close()
    certificate = x509.load_der_x509_certificate(connection.getpeercert(True))
    return certificate.serial_number, connection.version()


async def until_seen(port: int, leaf: trustme.LeafCert) -> None:
    async with asyncio.timeout(5):
        while (await seen(port))[0] != serial_of(leaf):
            await asyncio.sleep(0.01)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


async def test_certificate_of_the_files_is_shown(files: Files) -> None:
    async with serving(files.server()) as port:
        assert await seen(port) == (serial_of(FIRST), "TLSv1.3")
        assert (await seen(port, maximum_version=ssl.TLSVersion.TLSv1_2))[1] == "TLSv1.2"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_older_versions_are_refused(files: Files) -> None:
    async with serving(files.server()) as port:
        with pytest.raises((ssl.SSLError, OSError)):
            await seen(port, minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)


async def test_new_certificate_is_shown_to_new_connections(files: Files) -> None:
    async with serving(files.server()) as port:
        assert (await seen(port))[0] == serial_of(FIRST)
        files.hold(SECOND)
        await until_seen(port, SECOND)
        assert (await seen(port, name=None))[0] == serial_of(SECOND)
        files.hold(FIRST)
        await until_seen(port, FIRST)


async def test_files_behind_a_link_that_is_swapped_are_followed(tmp_path: Path) -> None:
    """As Kubernetes mounts a secret: the files are links through a directory that is replaced."""
    for name, leaf in (("one", FIRST), ("two", SECOND)):
        (tmp_path / name).mkdir()
        Files(tmp_path / name).hold(leaf)
    (tmp_path / "data").symlink_to("one")
    files = Files(tmp_path)
    files.cert.symlink_to("data/tls.crt")
    files.key.symlink_to("data/tls.key")
    async with serving(files.server()) as port:
        assert (await seen(port))[0] == serial_of(FIRST)
        (tmp_path / "data.new").symlink_to("two")
        os.replace(tmp_path / "data.new", tmp_path / "data")
        await until_seen(port, SECOND)


BROKEN = {
    "the other half missing": (chain_of(SECOND), None, "does not belong to"),
    "a key of nobody": (None, key_of(SECOND), "does not belong to"),
    "no certificate": (b"nonsense", None, "does not hold a certificate"),
    "no key": (None, b"nonsense", "does not hold a private key"),
    "nothing at all": (b"", b"", "does not hold a certificate"),
}


@pytest.mark.parametrize(("cert", "key", "told"), BROKEN.values(), ids=BROKEN)
async def test_broken_new_pair_keeps_the_old_and_is_told_of_once(
    cert: bytes | None, key: bytes | None, told: str, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.control")
    tls = files.server()
    async with serving(tls) as port:
        files.write(cert, key)
        await until(lambda: bool(caplog.messages))
        assert told in caplog.messages[0]
        looks = 0
        look = tls._look

        def counted() -> object:
            nonlocal looks
            looks += 1
            return look()

        tls._look = counted  # type: ignore[method-assign, assignment]
        await until(lambda: looks > 3)
        assert len(caplog.messages) == 1
        assert await seen(port) == (serial_of(FIRST), "TLSv1.3")
        files.hold(SECOND)
        await until_seen(port, SECOND)
        await until(lambda: len(caplog.messages) == 2)
        assert "new connections see it" in caplog.messages[1]


async def test_missing_files_keep_what_was_read(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(files.server()) as port:
        files.cert.unlink()
        await until(lambda: bool(caplog.messages))
        assert "tls.crt cannot be read: No such file or directory" in caplog.messages[0]
        assert (await seen(port))[0] == serial_of(FIRST)


def encrypted(leaf: trustme.LeafCert) -> bytes:
    key = load_pem_private_key(key_of(leaf), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"geheim"))


REFUSED = {
    "no cert file": (None, key_of(FIRST), r"tls\.crt cannot be read: No such file"),
    "no key file": (chain_of(FIRST), None, r"tls\.key cannot be read: No such file"),
    "swapped": (key_of(FIRST), chain_of(FIRST), r"tls\.crt does not hold a certificate in PEM"),
    "key of another": (
        chain_of(FIRST),
        key_of(SECOND),
        r"the key in .*tls\.key does not belong to .*tls\.crt",
    ),
    "encrypted key": (chain_of(FIRST), encrypted(FIRST), r"the key in .*tls\.key is encrypted"),
    "binary": (b"\x00\xff" * 50, key_of(FIRST), r"tls\.crt does not hold a certificate in PEM"),
    "binary key": (chain_of(FIRST), b"\x30\x82" * 50, r"tls\.key does not hold a private key in PEM"),
    "too large": (b" " * (1 << 20) + chain_of(FIRST), key_of(FIRST), r"tls\.crt is larger than"),
}


@pytest.mark.parametrize(("cert", "key", "told"), REFUSED.values(), ids=REFUSED)
def test_files_that_cannot_be_used_are_one_sentence(
    cert: bytes | None, key: bytes | None, told: str, tmp_path: Path
) -> None:
    files = Files(tmp_path)
    files.write(cert, key)
    with pytest.raises(TlsFilesError, match=told) as caught:
        server_context(str(files.cert), str(files.key))
    assert str(caught.value).isprintable()
    assert not re.search("BEGIN|geheim", str(caught.value))


def test_directory_in_place_of_a_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TlsFilesError, match="cannot be read: Is a directory"):
        ServerTls(str(tmp_path), str(tmp_path))


async def test_client_of_another_authority_is_not_convinced(files: Files) -> None:
    async with serving(files.server()) as port:
        context = ssl.create_default_context()
        OTHER_CA.configure_trust(context)
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")


async def test_stopping_twice_is_stopping_once(files: Files) -> None:
    tls = files.server()
    tls.start()
    await tls.stop()
    await tls.stop()
