"""A file of sealed frames that is believed whole or not at all, and the stamp that dates it anew.

AES-256-GCM under a key that is made of the caller's secret and the file's own random id, so that no
frame fits another file. A frame's nonce is its number and the last one is marked as such in what is
authenticated: frames that were altered, left out, moved or cut off are found out. A new file takes the
place of the old one when it is whole and on disk. The stamp beside it is small and written often.
Imports ``store`` only.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import io
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.store.sqlite_files import create_private, sync_directory

MAGIC = b"gateway kept table 1\n"
_ANY_VERSION = b"gateway kept table "
_STAMP_MAGIC = b"gateway kept stamp 1\n"
_ID_BYTES = 32
_NONCE_BYTES = 12
_LENGTH_BYTES = 4
_MORE, _LAST = b"\0", b"\1"
_LONGEST_STAMP = 4096
_SYNC_EVERY_BYTES = 8 << 20
"""So much at a time is forced to disk, so that nobody else's commit waits behind all of it."""


class KeptFileError(Exception):
    """The file cannot be used; the message is one sentence."""


class Draft:
    """A new file beside the one whose place it takes at ``finish``; used from one thread."""

    def __init__(self, path: Path, secret: bytes) -> None:
        """Take the path of the file, and what it is sealed with."""
        self.id = secrets.token_bytes(_ID_BYTES)
        self._path = path
        self._draft = path.with_name(f"{path.name}.draft")
        self._cipher = _cipher(secret, MAGIC + self.id)
        self._file: io.FileIO | None = None
        self._number = 0
        self._unsynced = 0

    def begin(self) -> None:
        """Make the draft, in a directory that is made if need be. Raises OSError."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._draft.unlink(missing_ok=True)  # of a process that was killed
        create_private(self._draft, MAGIC + self.id, owner=_model(self._path))
        self._file = io.FileIO(self._draft, "ab")

    def add(self, frame: bytes) -> None:
        """Seal and write one frame, which is not the last. Raises OSError."""
        self._write(frame, _MORE)

    def finish(self, frame: bytes) -> None:
        """Write the last frame and put the file in its place, durably. Raises OSError."""
        file = self._write(frame, _LAST)
        os.fsync(file.fileno())
        os.replace(self._draft, self._path)
        self._file = None
        file.close()
        sync_directory(self._path.parent)

    def drop(self) -> None:
        """Leave nothing behind of a file that was not finished; safe at any time. Raises OSError."""
        if self._file is not None:
            self._file.close()
            self._draft.unlink(missing_ok=True)

    def _write(self, frame: bytes, mark: bytes) -> io.FileIO:
        assert self._file is not None, "it has begun"
        sealed = self._cipher.encrypt(self._number.to_bytes(_NONCE_BYTES, "big"), frame, mark)
        self._number += 1
        left = memoryview(mark + len(sealed).to_bytes(_LENGTH_BYTES, "big") + sealed)
        self._unsynced += len(left)
        while left:
            left = left[self._file.write(left) :]
        if self._unsynced > _SYNC_EVERY_BYTES:
            self._unsynced = 0
            os.fsync(self._file.fileno())
        return self._file


class KeptFile:
    """An existing file, and under which of several secrets it can be read.

    Attributes:
        id: what tells it from every other.
        secret: the one that it was sealed with; found by reading the first frame.
    """

    def __init__(self, path: Path, candidates: Sequence[bytes]) -> None:
        """Open it. Raises KeptFileError where it is not there, not private, or of another kind."""
        self._path = path
        self._candidates = candidates
        self._file = _opened(path)
        head = self._file.read(len(MAGIC) + _ID_BYTES)
        self.id = head[len(MAGIC) :]
        self.secret = b""
        if not head.startswith(MAGIC) or len(self.id) < _ID_BYTES:
            self.close()
            other = head.startswith(_ANY_VERSION)
            raise KeptFileError(
                f"the kept table {path} was written by {'another version' if other else 'something else'}"
            )

    def frames(self) -> Iterator[bytes]:
        """Yield what the frames hold, in order; raises KeptFileError, perhaps only at the end."""
        number = 0
        while True:
            head = self._file.read(1 + _LENGTH_BYTES)
            mark, length = head[:1], int.from_bytes(head[1:], "big")
            # The rest of the file bounds what is read, whatever the length says.
            sealed = self._file.read(length) if len(head) > _LENGTH_BYTES else b""
            if len(sealed) < length:
                raise KeptFileError(f"the kept table {self._path} is cut off")
            yield self._unsealed(number, sealed, mark)
            number += 1
            if mark == _LAST:
                break
        if self._file.read(1):
            raise KeptFileError(f"the kept table {self._path} goes on after its end")

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()

    def _unsealed(self, number: int, sealed: bytes, mark: bytes) -> bytes:
        for secret in [self.secret] if self.secret else self._candidates:
            try:
                cipher = _cipher(secret, MAGIC + self.id)
                frame = cipher.decrypt(number.to_bytes(_NONCE_BYTES, "big"), sealed, mark)
            except (InvalidTag, ValueError):
                continue
            self.secret = secret
            return frame
        damaged = "is damaged or cut off" if number else "was made under another pepper, or is damaged"
        raise KeptFileError(f"the kept table {self._path} {damaged}")


def file_id(path: Path) -> bytes | None:
    """Return the id of the file at ``path``; None where there is none that could be one."""
    try:
        with _opened(path) as file:
            return file.read(len(MAGIC) + _ID_BYTES)[len(MAGIC) :]
    except KeptFileError:
        return None


def write_stamp(path: Path, of: bytes, secret: bytes, content: bytes) -> None:
    """Put a stamp beside the file ``path``, whose id is ``of``; another's goes. Raises OSError."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = _cipher(secret, _STAMP_MAGIC + of).encrypt(nonce, content, None)
    stamp = _stamp_of(path)
    draft = stamp.with_name(f"{stamp.name}.{secrets.token_hex(8)}")
    create_private(draft, _STAMP_MAGIC + of + nonce + sealed, owner=_model(path))
    try:
        os.replace(draft, stamp)
    finally:
        draft.unlink(missing_ok=True)


def read_stamp(path: Path, of: bytes, secret: bytes) -> bytes | None:
    """Return what the stamp beside ``path`` says of the file ``of``; None without one, or of another file.

    Raises KeptFileError for one that is not what was written.
    """
    stamp = _stamp_of(path)
    if not stamp.is_symlink() and not stamp.exists():
        return None
    with _opened(stamp) as file:
        content = file.read(_LONGEST_STAMP)
    head, rest = content[: len(_STAMP_MAGIC)], content[len(_STAMP_MAGIC) :]
    if head != _STAMP_MAGIC or len(rest) < _ID_BYTES + _NONCE_BYTES:
        raise KeptFileError(f"the kept table's stamp {stamp} is damaged")
    if rest[:_ID_BYTES] != of:
        return None
    nonce, sealed = rest[_ID_BYTES : _ID_BYTES + _NONCE_BYTES], rest[_ID_BYTES + _NONCE_BYTES :]
    try:
        return _cipher(secret, _STAMP_MAGIC + of).decrypt(nonce, sealed, None)
    except (InvalidTag, ValueError):
        raise KeptFileError(f"the kept table's stamp {stamp} is damaged") from None


def _stamp_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.stamp")


def _model(path: Path) -> Path:
    """Return whose owner a new file gets under root: the present one's, else the directory's."""
    return path if path.is_file() and not path.is_symlink() else path.parent


def _cipher(secret: bytes, context: bytes) -> AESGCM:
    return AESGCM(hmac.digest(secret, context, hashlib.sha256))


def _opened(path: Path) -> BinaryIO:
    """Open a file that is nobody's but the gateway's. Raises KeptFileError."""
    try:
        # Without waiting for a writer, should it be a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KeptFileError(f"there is no kept table at {path}") from None
    except OSError as error:
        why = "is a symbolic link" if error.errno == errno.ELOOP else f"cannot be read: {error.strerror}"
        raise KeptFileError(f"the kept table {path} {why}") from None
    if problem := _problem(os.fstat(descriptor), path):
        os.close(descriptor)
        raise KeptFileError(f"the kept table {path} {problem}")
    return os.fdopen(descriptor, "rb")


def _problem(found: os.stat_result, path: Path) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "is not a file"
    if found.st_uid not in (os.geteuid(), path.parent.stat().st_uid):
        return "belongs to another user"
    if found.st_mode & 0o077:
        return f"is open to others (mode {stat.S_IMODE(found.st_mode):04o}, not 0600)"
    return ""
