"""The files of a SQLite store: where they may lie, who owns them, how they come to be.

SQLite gives its ``-wal`` and ``-shm`` files the mode of the database file and, under root, its
owner; what is made here (directory, database file) follows the same rule. Imports ``store`` only.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gateway.store.base import StoreError

OLDEST_SQLITE = (3, 35, 0)
"""The first with RETURNING."""
BUSY_TIMEOUT_S = 5.0
READ_BUSY_TIMEOUT_S = 0.2

# WAL needs shared memory between all who open the file; these are mounted from another machine.
_NETWORK_TYPES = {
    "nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "9p", "afs", "ncpfs", "coda", "ceph", "glusterfs",
    "lustre", "gfs2", "ocfs2", "beegfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs",
    "fuse.gcsfuse", "fuse.rclone", "fuse.davfs", "fuse.juicefs", "virtiofs",
}  # fmt: skip


class FileIdentity(NamedTuple):
    """What tells one database file from another at the same path."""

    device: int
    inode: int


class FileState(NamedTuple):
    """A file's identity and what changes when somebody writes into it past SQLite."""

    identity: FileIdentity
    modified_ns: int
    size: int


def file_state(path: Path) -> FileState:
    """Return what stands at ``path`` now. Raises StoreError when nothing does."""
    try:
        found = path.stat()
    except OSError as error:
        raise StoreError(f"the store {path} cannot be found: {error.strerror}") from None
    return FileState(FileIdentity(found.st_dev, found.st_ino), found.st_mtime_ns, found.st_size)


def prepare(path: Path) -> None:
    """Make the directory and an empty database file where there is none, mode 0700 and 0600.

    Raises StoreError when that cannot be, or where SQLite's locks cannot be relied on.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or newer is needed")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_network(path.parent)
        create_private(path, b"", owner=path.parent)
    except FileExistsError:
        if not path.is_file():
            raise StoreError(f"the store {path} is not a file") from None
    except OSError as error:
        raise StoreError(f"the store {path} cannot be created: {error.strerror}") from None


def create_private(path: Path, content: bytes, *, owner: Path) -> None:
    """Create ``path`` for its owner's eyes alone; under root it goes to whoever owns ``owner``.

    Raises OSError; FileExistsError when it is there already.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if os.geteuid() == 0:
            holder = owner.stat()
            os.fchown(descriptor, holder.st_uid, holder.st_gid)
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_network(directory: Path, mounts: Path = Path("/proc/self/mounts")) -> None:
    """Raise StoreError when ``directory`` lies on a network file system, as far as can be told."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return  # not Linux: nothing lists the mounts
    resolved = directory.resolve()
    kind, depth = "", -1
    for line in lines:
        _, point, found, *_ = line.split(" ")
        mounted = Path(point.encode(errors="surrogateescape").decode("unicode_escape"))
        if resolved.is_relative_to(mounted) and len(mounted.parts) >= depth:
            kind, depth = found, len(mounted.parts)
    if kind in _NETWORK_TYPES:
        raise StoreError(
            f"the store cannot lie in {directory}, a network file system ({kind}): use a local disk"
        )


def connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """Open an existing database file. Raises StoreError when it is missing, sqlite3.Error otherwise.

    A reader opens read-only, so that it can never write, nor take the write-ahead log away from
    another file that has come to stand at the same path.
    """
    file_state(path)
    mode = "rw" if writable else "ro"
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S if writable else READ_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    if writable:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    else:
        connection.execute("PRAGMA query_only = ON")
    return connection


def use_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log once; SQLite does not wait for others here, so this does."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
                return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)
        if time.monotonic() > deadline:
            raise sqlite3.OperationalError(
                "no write-ahead log can be had: the disk is full, or the file system shares no memory"
            )


def close(connection: sqlite3.Connection) -> None:
    """Close a writer's connection and leave an empty log behind where nobody else is busy.

    With an empty log, a database file put in this one's place is not mixed with its last pages.
    """
    try:
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error:
        pass  # whoever is busy empties it later; what was committed is durable in the log
    finally:
        connection.close()


@contextmanager
def told_as_store_error(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into one sentence that names the store."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            raise StoreError(f"the store {path} is locked by another process: try again") from None
        if "not a database" in text or "malformed" in text:
            raise StoreError(f"the store {path} is damaged or not a SQLite database ({text})") from None
        if "readonly" in text or "unable to open" in text:
            raise StoreError(
                f"the store {path} cannot be written ({text}): its file and its directory must be writable"
            ) from None
        if "no such table" in text or "no such column" in text:
            raise StoreError(f"the store {path} does not have the gateway's schema ({text})") from None
        raise StoreError(f"the store {path} could not be used: {text}") from None
