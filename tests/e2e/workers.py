"""What tests of several workers share: who they are, and callers that note what befalls them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from tests.wire.backend import eventually
from tests.wire.client import Client, Cut, get
from tests.wire.product import Product


def workers_of(product: Product) -> list[int]:
    """Return the processes that serve callers, in the order of their start."""
    pid = product.process.pid
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"workers.main" in _command_line(int(child)):
            found.append(int(child))
    return found


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def all_serve(product: Product, count: int) -> None:
    """Wait until so many workers serve, each from its own sockets."""
    eventually(
        lambda: product.metric('gateway_workers{state="serving"}') == count,
        within=15,
        why="not every worker serves",
    )


def who_answered(product: Product, path: str, times: int) -> list[bytes]:
    """Ask so often, each time by a new connection; return who answered: request ids begin with it."""
    found = []
    for _ in range(times):
        with Client(product.port) as client:
            response = client.send(get(path, key=product.keys.viewer)).response()
            assert response.status == 200
            found.append((response.value("x-request-id") or b"").partition(b"-")[0])
    return found


class Callers:
    """Callers that ask again and again; what went wrong is noted, and what each was doing."""

    def __init__(self, product: Product, path: str, *, keep_alive: bool, count: int = 8) -> None:
        self.product, self.path, self.keep_alive = product, path, keep_alive
        self.served = 0
        self.refused: list[str] = []
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(15)

    def wait_for(self, more: int) -> None:
        """Wait until so many more requests were answered."""
        wanted = self.served + more
        eventually(lambda: self.served >= wanted, within=20, why="callers are not served")

    def until_gone(self) -> None:
        """Go on until nobody listens any more; that is the end, and no failure."""
        eventually(lambda: not any(thread.is_alive() for thread in self._threads), within=20)

    def _run(self) -> None:
        client: Client | None = None
        while not self._stop.is_set():
            try:
                client = client or Client(self.product.port)
            except OSError as error:
                self.refused.append(repr(error))
                return
            client = self._ask(client)
        if client is not None:
            client.close()

    def _ask(self, client: Client) -> Client | None:
        try:
            response = client.send(get(self.path, key=self.product.keys.viewer)).response()
        except (OSError, Cut) as error:
            self.failed.append(repr(error))
            client.close()
            return None
        if response.status != 200:
            self.failed.append(f"{response.status} {response.body!r}")
        self.served += 1
        if self.keep_alive and not response.says_close:
            return client
        client.close()
        return None


Start = Callable[..., Product]
