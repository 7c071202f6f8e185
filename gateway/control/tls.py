"""TLS for a listener: a certificate and its key from files, read again when they change.

Certificates are renewed under a running gateway (cert-manager, certbot), so a change of the files
is taken over for new connections; a pair that is no good changes nothing and is told of once.
Imports nothing of the project.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

POLL_S = 5.0
_MAXIMUM_BYTES = 1 << 20
_log = logging.getLogger("gateway.control")

_Seen = tuple[tuple[int, int, int], ...]


class TlsFilesError(Exception):
    """A certificate and its key cannot be used; one sentence that names the file."""


def server_context(cert: str, key: str) -> ssl.SSLContext:
    """Return the context of a server that shows itself with these PEM files. Raises TlsFilesError.

    TLS 1.2 and 1.3 (RFC 9325 §3.1.1) with OpenSSL's own choice of ciphers, at Python's security level.
    """
    _check_certificates(cert)
    _check_key(key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # With a password to hand OpenSSL never asks a terminal for one.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsFilesError(f"the key in {key} does not belong to the certificate in {cert}") from None
        reason = (error.reason or "unknown").lower().replace("_", " ")
        raise TlsFilesError(f"the certificate in {cert} cannot be used: {reason}") from None
    except OSError as error:
        raise TlsFilesError(f"{cert} or {key} cannot be read: {error.strerror or error}") from None
    return context


def _check_certificates(path: str) -> None:
    try:
        x509.load_pem_x509_certificates(_content(path))
    except ValueError:
        raise TlsFilesError(f"{path} does not hold a certificate in PEM") from None


def _check_key(path: str) -> None:
    try:
        load_pem_private_key(_content(path), password=None)
    except TypeError:
        raise TlsFilesError(
            f"the key in {path} is encrypted; write it without a passphrase, readable by the gateway alone"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise TlsFilesError(f"{path} does not hold a private key in PEM") from None


def _content(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAXIMUM_BYTES + 1)
    except OSError as error:
        raise TlsFilesError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(content) > _MAXIMUM_BYTES:
        raise TlsFilesError(f"{path} is larger than {_MAXIMUM_BYTES} bytes")
    return content


class ServerTls:
    """The TLS of one listener, kept in step with its files.

    Attributes:
        context: what to listen with. It hands every new connection to the pair that was read last;
            the pair itself is replaced whole, since OpenSSL takes over certificate and key one after
            the other, and would keep half of a pair that is no good.
    """

    def __init__(self, cert: str, key: str, *, poll_s: float = POLL_S) -> None:
        """Read the files; raises TlsFilesError. They are looked at every ``poll_s`` seconds after `start`."""
        self._cert, self._key, self._poll_s = cert, key, poll_s
        self._seen = self._look()
        self._failed: tuple[_Seen, str] | None = None
        self._current = self.context = server_context(cert, key)
        self.context.sni_callback = self._hand_over
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow the files."""
        self._task = asyncio.create_task(self._follow(), name="certificate files")

    async def stop(self) -> None:
        """Stop following; safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _hand_over(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        """Show the newest certificate; called in every handshake, whether a name is asked for or not."""
        connection.context = self._current

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                # In a thread: a file system may take its time, and so does reading a key.
                await asyncio.to_thread(self._read_again)
            except Exception:
                # A fault of ours must not end this: the next certificate would never be shown.
                _log.exception("following the certificate in %s failed and goes on", self._cert)

    def _read_again(self) -> None:
        """Take over files that have changed since they were last read."""
        seen = self._look()
        if seen == self._seen:
            return
        try:
            self._current = server_context(self._cert, self._key)
        except TlsFilesError as error:
            # Two files are seldom written at once: what fails is told when it has stayed as it is.
            if self._failed == (seen, str(error)):
                self._seen, self._failed = seen, None
                _log.warning("the new certificate is not used, the old one is shown on: %s", error)
            else:
                self._failed = seen, str(error)
            return
        self._seen, self._failed = seen, None
        _log.info("the certificate in %s has changed; new connections see it", self._cert)

    def _look(self) -> _Seen:
        """Return what tells a file from its successor; a missing one is told apart too."""
        found = []
        for path in (self._cert, self._key):
            try:
                status = os.stat(path)
            except OSError as error:
                found.append((-1, error.errno or 0, 0))
            else:
                found.append((status.st_mtime_ns, status.st_ino, status.st_size))
        return tuple(found)
