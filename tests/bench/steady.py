"""A steady rate of requests, whatever the answers' pace, and how long each took from when it was due.

A load that waits for its answers sends less while a proxy stalls, and so hides the stall; this one
does not. Run as a process of its own:

    python -m tests.bench.steady PORT TOKEN SECONDS RATE
"""

from __future__ import annotations

import asyncio
import sys
import time

CONNECTIONS = 16


async def steady(port: int, token: str, seconds: float, rate: int) -> list[float]:
    """Return the latency of each request in seconds, in order of size."""
    request = f"GET /small HTTP/1.1\r\nHost: bench\r\nX-API-KEY: {token}\r\n\r\n".encode()
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    latencies: list[float] = []

    async def ask(due: float) -> None:
        reader, writer = await free.get()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        await reader.readexactly(128)
        latencies.append(time.perf_counter() - due)
        free.put_nowait((reader, writer))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds * rate)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(ask(due))
    return sorted(latencies)


def main() -> None:
    port, token, seconds, rate = sys.argv[1:]
    import uvloop

    latencies = uvloop.run(steady(int(port), token, float(seconds), int(rate)))
    count = len(latencies)
    print(f"RESULT {count} {latencies[count // 2] * 1e6:.0f} {latencies[count * 99 // 100] * 1e6:.0f}")


if __name__ == "__main__":
    main()
