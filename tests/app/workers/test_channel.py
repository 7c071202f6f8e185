"""Messages arrive whole and in order, however the bytes come, and the end of the other side is told."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest

from gateway.app.workers.channel import Channel, read_first
from gateway.app.workers.messages import Accept, Ask, End, Finish, ToWorker

MESSAGES: list[ToWorker] = [Accept((0, 5)), Ask(1, whole=False), Ask(2, whole=True), Finish(), End()]


class Heard:
    def __init__(self) -> None:
        self.messages: list[ToWorker] = []
        self.lost = asyncio.Event()
        self.channel = Channel(msgspec.msgpack.Decoder(ToWorker), self.messages.append, self.lost.set)


async def test_messages_arrive_in_order_until_the_other_end_is_gone() -> None:
    ours, its = socket.socketpair()
    here, there = Heard(), Heard()
    await here.channel.open(ours)
    await there.channel.open(its)
    for message in MESSAGES:
        here.channel.send(message)
    here.channel.close()
    await asyncio.wait_for(there.lost.wait(), 5)
    assert there.messages == MESSAGES
    there.channel.send(End())  # to nobody, and without a fault


@pytest.mark.parametrize("size", [1, 3, 7, 100])
async def test_any_split_of_the_bytes_is_the_same(size: int) -> None:
    heard, sent = Heard(), bytearray()
    for message in MESSAGES:
        text = msgspec.msgpack.encode(message)
        sent += len(text).to_bytes(4, "big") + text
    for at in range(0, len(sent), size):
        heard.channel.data_received(bytes(sent[at : at + size]))
    assert heard.messages == MESSAGES


def test_the_first_message_is_read_without_a_loop() -> None:
    ours, its = socket.socketpair()
    with ours, its:
        ours.sendall((70_000).to_bytes(4, "big") + b"x" * 70_000 + b"rest")
        assert read_first(its) == b"x" * 70_000
        assert its.recv(10) == b"rest"


def test_an_end_that_goes_before_the_first_message_is_told() -> None:
    ours, its = socket.socketpair()
    with its:
        ours.sendall(b"\0\0")
        ours.close()
        with pytest.raises(EOFError):
            read_first(its)
