"""The access log as its reader sees it: whole lines, none lost, none in the way."""

import asyncio
import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import LiveKey, Permission
from gateway.core.refusals import Reason
from gateway.observe import AccessLog, Observer, Outcome, open_access_log
from gateway.observe.access_log import BATCH_LINES, LOOK_INTERVAL_S, QUEUED_BATCHES, QUEUED_BYTES

KEY = LiveKey(
    who=b"X-Gateway-Key-Id: apk_1\r\nX-Gateway-Subject: subject_1\r\n",
    scope=b"",
    tenant_id="acme",
    environment_id=None,
    role="viewer",
    permission=Permission.VIEWER,
    expires_at=0,
    revoked_at=None,
)


def outcome(request_id: bytes = b"r-1", target: bytes = b"/a", **changes: object) -> Outcome:
    at, duration_s, upstream_s = 1_700_000_000.0625, 0.00123, 0.001
    line = Outcome(
        at,
        request_id,
        "sites",
        b"GET",
        target,
        200,
        None,
        duration_s,
        "default",
        upstream_s,
        5,
        128,
        KEY,
        "::1",
    )
    for name, changed in changes.items():
        setattr(line, name, changed)
    return line


def opened(path: Path) -> AccessLog:
    log = open_access_log(str(path))
    assert log is not None
    return log


def written(path: Path, *outcomes: Outcome) -> list[dict[str, object]]:
    log = opened(path)
    for each in outcomes:
        log.add(each)
    assert log.close()
    return [json.loads(line) for line in path.read_text().splitlines()]


def eventually(condition: object, what: str) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"not within 10 s: {what}"
        time.sleep(0.01)


def test_a_line_has_exactly_the_fields_in_order(tmp_path: Path) -> None:
    (line,) = written(tmp_path / "log", outcome())
    assert list(line.items()) == [
        ("time", "2023-11-14T22:13:20.062Z"),
        ("request_id", "r-1"),
        ("route", "sites"),
        ("method", "GET"),
        ("target", "/a"),
        ("status", 200),
        ("reason", None),
        ("duration_ms", 1.23),
        ("upstream_ms", 1.0),
        ("bytes_in", 5),
        ("bytes_out", 128),
        ("key_id", "apk_1"),
        ("tenant", "acme"),
        ("peer", "::1"),
    ]


def test_a_refusal_names_its_reason_and_nobody(tmp_path: Path) -> None:
    refused = outcome(status=401, reason=Reason.KEY_UNKNOWN, key=None, upstream_s=None)
    (line,) = written(tmp_path / "log", refused)
    assert (line["reason"], line["key_id"], line["tenant"], line["upstream_ms"]) == (
        "key_unknown",
        None,
        None,
        None,
    )


def test_the_second_is_told_anew_when_it_changes(tmp_path: Path) -> None:
    lines = written(tmp_path / "log", outcome(at=59.9995), outcome(at=60.0), outcome(at=59.001))
    assert [line["time"] for line in lines] == [
        "1970-01-01T00:00:59.999Z",
        "1970-01-01T00:01:00.000Z",
        "1970-01-01T00:00:59.001Z",
    ]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=60), st.binary(max_size=60)), max_size=20)
)
def test_one_request_is_one_line_whatever_it_held(parts: list[tuple[bytes, bytes, bytes]]) -> None:
    reader, writer = os.pipe()
    log = AccessLog(writer)
    for request_id, method, target in parts:
        log.add(outcome(request_id, target, method=method))
    assert log.close()
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        lines = pipe.read().splitlines(keepends=True)
    assert len(lines) == len(parts)
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert b"".join(lines).isascii()


def test_secrets_in_the_query_are_masked(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written(path, outcome(target=b"/a?api_key=canary&b=1"))
    assert "canary" not in path.read_text()


def test_every_line_is_there_in_order_after_close(tmp_path: Path) -> None:
    count = BATCH_LINES * 5 + 17
    lines = written(tmp_path / "log", *(outcome(b"%d" % number) for number in range(count)))
    assert [line["request_id"] for line in lines] == [str(number) for number in range(count)]


async def test_lines_appear_within_a_moment_without_a_full_batch(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = opened(path)
    log.start(asyncio.get_running_loop())
    log.add(outcome())
    async with asyncio.timeout(10):
        while not path.read_text().endswith("\n"):
            await asyncio.sleep(0.01)
    assert log.close()


def test_a_pipe_that_nobody_reads_stops_no_request_and_the_loss_is_counted() -> None:
    reader, writer = os.pipe()
    log = AccessLog(writer)
    observer = Observer(log)
    count = BATCH_LINES * (QUEUED_BATCHES + 40)
    slowest = 0.0
    for _ in range(count):
        began = time.perf_counter()
        observer.record(outcome())
        slowest = max(slowest, time.perf_counter() - began)
    assert log.dropped > 0
    assert slowest < 1.0, "a request waited for the reader of the log"
    assert not log.close(within_s=0.05), "what nobody read cannot have been written"

    received = bytearray()
    drain = threading.Thread(target=lambda: received.extend(_read_all(reader)))
    drain.start()
    # The reader wakes: all that was queued comes out whole, and nothing that was counted as lost.
    eventually(
        lambda: received.count(b"\n") >= count - log.dropped or not drain.is_alive(), "the queue emptied"
    )
    os.close(writer)
    drain.join(10)
    assert bytes(received).count(b"\n") == count - log.dropped


def test_long_lines_that_nobody_reads_fill_no_memory() -> None:
    reader, writer = os.pipe()
    log = AccessLog(writer)
    long = outcome(target=b"/" + b"a" * 8000)
    for _ in range(BATCH_LINES * QUEUED_BATCHES // 2):  # so many lines of the common length would be kept
        log.add(long)
    kept = BATCH_LINES * QUEUED_BATCHES // 2 - log.dropped
    assert 1000 < kept < QUEUED_BYTES // 8000
    os.close(reader)  # what is kept fails, and the thread ends
    assert log.close()
    os.close(writer)


def _read_all(descriptor: int) -> bytes:
    chunks = []
    deadline = time.monotonic() + 5
    os.set_blocking(descriptor, False)
    quiet_since = time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - quiet_since < 0.5:
        try:
            chunk = os.read(descriptor, 1 << 20)
        except BlockingIOError:
            time.sleep(0.005)
            continue
        if not chunk:
            break
        chunks.append(chunk)
        quiet_since = time.monotonic()
    os.close(descriptor)
    return b"".join(chunks)


def test_a_stream_that_is_non_blocking_loses_nothing() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    log = AccessLog(writer)
    count = BATCH_LINES * 20
    received: list[bytes] = []
    drain = threading.Thread(target=lambda: received.append(_read_all(reader)))
    for number in range(count):
        log.add(outcome(b"%d" % number))
    drain.start()
    assert log.close()
    os.close(writer)
    drain.join(10)
    lines = received[0].splitlines()
    assert [json.loads(line)["request_id"] for line in lines] == [str(number) for number in range(count)]


def test_a_refused_write_is_counted_said_once_and_does_not_end_the_log(
    capfd: pytest.CaptureFixture[str],
) -> None:
    log = open_access_log("/dev/full")
    assert log is not None
    for _ in range(3):
        log.add(outcome())
        log.flush()
    assert log.close()
    assert log.dropped == 3
    sentences = capfd.readouterr().err
    assert sentences.count("the access log cannot be written") == 1
    assert "Traceback" not in sentences


def test_a_new_file_is_private_to_owner_and_group_and_an_old_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written(path, outcome(b"first"))
    assert path.stat().st_mode & 0o007 == 0
    lines = written(path, outcome(b"second"))
    assert [line["request_id"] for line in lines] == ["first", "second"]


def wrote(log: AccessLog, request_id: bytes) -> None:
    log.add(outcome(request_id))
    log.flush()


@pytest.mark.parametrize("create", [False, True])
def test_a_rotation_is_followed_within_a_second_or_so_and_loses_no_line(create: bool, tmp_path: Path) -> None:
    path, rotated = tmp_path / "log", tmp_path / "log.1"
    log = opened(path)
    wrote(log, b"before")
    eventually(lambda: path.stat().st_size > 0, "the first line was written")
    path.rename(rotated)
    if create:
        path.touch()
    written = 1

    def followed() -> bool:
        nonlocal written
        wrote(log, b"after")
        written += 1
        return path.exists() and path.stat().st_size > 0

    eventually(followed, "lines went to the new file")
    assert log.close()
    lines = [json.loads(line)["request_id"] for line in (rotated.read_text() + path.read_text()).splitlines()]
    assert lines == ["before"] + ["after"] * (written - 1)


def test_a_file_that_cannot_be_opened_anew_is_kept_and_it_is_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = opened(folder / "log")
    moved = tmp_path / "moved"
    folder.rename(moved)
    told = ""

    def said() -> bool:
        nonlocal told
        wrote(log, b"kept")
        told += capfd.readouterr().err
        return "cannot be reopened" in told

    eventually(said, "it was said")
    looked_again_at = time.monotonic() + 1.2 * LOOK_INTERVAL_S
    eventually(lambda: said() and time.monotonic() > looked_again_at, "it looked again")
    assert log.close()
    assert told.count("cannot be reopened") == 1
    assert "kept" in (moved / "log").read_text()


def test_a_file_that_cannot_be_opened_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        open_access_log(str(tmp_path / "missing" / "log"))


def test_none_is_no_log_at_all() -> None:
    assert open_access_log("none") is None
