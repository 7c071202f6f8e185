"""The control process waits for the store, is asked whether it is there, and replaced when it is not."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from pathlib import Path

import pytest

from gateway.app import control_process
from gateway.app.control_process import ControlProcess
from gateway.config.load import load_settings
from gateway.keys.opening import opened_store
from tests.e2e.test_control_process import children


async def status_of(listener: socket.socket) -> bytes:
    """Ask for something by a new connection; return the status."""
    host, port = listener.getsockname()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
    try:
        return (await reader.readline()).split()[1]
    finally:
        writer.close()


async def test_who_does_not_answer_is_replaced_and_who_answers_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control_process, "ASK_S", 0.4)
    url = f"sqlite:///{tmp_path}/gateway.db"
    async with opened_store(url, pepper=None, pepper_file=None):
        settings = load_settings(None, {}, {"--store": url})
    with socket.create_server(("127.0.0.1", 0)) as listener, caplog.at_level(logging.WARNING):
        others = children(os.getpid())
        control = ControlProcess(settings, listener)
        await control.start()
        try:
            (process,) = set(children(os.getpid())) - set(others)
            await asyncio.sleep(1.0)  # in which it is asked some times
            assert process in children(os.getpid())
            os.kill(process, signal.SIGSTOP)
            assert await asyncio.wait_for(status_of(listener), 30) == b"200"
        finally:
            await control.stop()
    assert caplog.messages == [
        "the control API has not answered for 2.4 s",
        "the control API ended with code -9 and is started again",
    ]


async def test_a_store_that_goes_while_it_starts_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "gateway.db"
    async with opened_store(f"sqlite:///{file}", pepper=None, pepper_file=None):
        settings = load_settings(None, {}, {"--store": f"sqlite:///{file}"})
    away = file.rename(tmp_path / "away")
    with socket.create_server(("127.0.0.1", 0)) as listener, caplog.at_level(logging.WARNING):
        control = ControlProcess(settings, listener)
        await control.start()
        try:
            away.rename(file)
            assert await asyncio.wait_for(status_of(listener), 30) == b"200"
        finally:
            await control.stop()
    assert caplog.messages[0].startswith("the control API cannot be served: the store")
