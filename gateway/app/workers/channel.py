"""One end of what connects the supervisor and a worker: whole messages, until the other end is gone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

LENGTH_BYTES = 4
T = TypeVar("T")


class Channel(asyncio.Protocol, Generic[T]):
    """Sends and receives messages, each a MessagePack text after its length."""

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[T],
        on_message: Callable[[T], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._decode = decoder.decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._on_message = on_message
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()

    async def open(self, end: socket.socket) -> None:
        """Talk by ``end``, which is the channel's from now on."""
        end.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: self, sock=end)

    def send(self, message: msgspec.Struct) -> None:
        """Send one message; to an end that is gone, nothing."""
        self.send_bytes(self._encode(message))

    def send_bytes(self, text: bytes) -> None:
        """Send one message that is encoded already."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(len(text).to_bytes(LENGTH_BYTES, "big") + text)

    def close(self) -> None:
        """Send what is to be sent, then end."""
        if self._transport is not None:
            self._transport.close()

    # -- The loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports have the interface, but not the type.
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Hand over each message that is whole."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(buffer[:LENGTH_BYTES], "big")
            if len(buffer) < end:
                break
            text = bytes(buffer[LENGTH_BYTES:end])
            del buffer[:end]
            self._on_message(self._decode(text))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the other end is gone."""
        self._on_lost()


def read_first(end: socket.socket) -> bytes:
    """Return the first message, before there is a loop. Raises EOFError when the other end is gone."""
    size = int.from_bytes(_exactly(end, LENGTH_BYTES), "big")
    return _exactly(end, size)


def _exactly(end: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        data = end.recv(count - len(found))
        if not data:
            raise EOFError
        found += data
    return bytes(found)
