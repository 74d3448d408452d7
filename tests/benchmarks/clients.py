"""Clients that keep connections open and ask again as soon as they are answered: little code, so that they cost little."""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Load", "cpu_of", "load", "memory_of", "processes_of", "request"]

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass
class Load:
    """What clients saw.

    Attributes:
        seconds: that it took.
        latencies: of requests that were answered, s.
        statuses: how many of each.
        lost: connections that ended in the middle of a request.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    lost: int = 0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """Latency that a share of the requests did not pass, ms."""
        return 1e3 * sorted(self.latencies)[min(len(self.latencies) - 1, int(share * len(self.latencies)))]

    @property
    def median(self) -> float:
        """Median latency, ms."""
        return 1e3 * statistics.median(self.latencies)


def request(path: str, body: bytes = b"", kind: str = "application/x-npy") -> bytes:
    """A request as it goes over the wire."""
    method = "POST" if body else "GET"
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def load(port: int, requests: list[bytes], clients: int, *, count: int = 0, seconds: float = 0.0) -> Load:
    """Requests in turn by so many clients, until ``count`` were made or ``seconds`` have passed."""
    found, begun = Load(), time.perf_counter()
    made = 0

    async def client(number: int) -> None:
        nonlocal made
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        turn = number
        while (made < count) if count else (time.perf_counter() - begun < seconds):
            made += 1
            started = time.perf_counter()
            try:
                writer.write(requests[turn % len(requests)])
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                await reader.readexactly(int(length[1]) if length else 0)
            except (OSError, asyncio.IncompleteReadError):
                found.lost += 1
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                continue
            finally:
                turn += 1
            found.latencies.append(time.perf_counter() - started)
            status = int(head[9:12])
            found.statuses[status] = found.statuses.get(status, 0) + 1
            if b"connection: close" in head.lower():
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    found.seconds = time.perf_counter() - begun
    return found


def processes_of(names: Iterable[str]) -> dict[int, str]:
    """Processes whose title begins with one of ``names``, by id."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    title = file.read().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if title.startswith(tuple(names)):
                found[int(entry)] = title.split()[0]
    return found


def cpu_of(processes: Iterable[int]) -> float:
    """CPU seconds of processes together."""
    total = 0
    for process in processes:
        try:
            with open(f"/proc/{process}/stat", encoding="ascii") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def memory_of(processes: Iterable[int]) -> float:
    """Resident memory of processes together, MB; pages that they share count in each."""
    pages = 0
    for process in processes:
        try:
            with open(f"/proc/{process}/statm", encoding="ascii") as file:
                pages += int(file.read().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
