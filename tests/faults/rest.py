"""What a gateway holds on to: gauges, descriptors, connections, memory. Read from outside, as an operator would."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import httpx2
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from gateway import Gateway

_SETTLED_S = 30.0
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_TCP_LISTEN = "0A"


def worker_pid(gateway: Gateway, *, other_than: int = 0, within_s: float = 60.0) -> int:
    """The process that serves, once there is one: granian's child, which names its journal after itself."""
    found: list[int] = []

    def is_found() -> bool:
        pids = {int(folder.name.split("-")[1]) for folder in (gateway.data_dir / "journal").glob("gateway-*")}
        found.extend(pid for pid in pids - {other_than} if _state(pid) != "Z")
        return bool(found)

    gateway.until(is_found, within_s=within_s)
    return found[0]


def _state(pid: int) -> str:
    """One letter of the kernel's; Z where it is gone or about to be."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def stop(pid: int) -> None:
    """SIGSTOP, and it does nothing any more when this returns."""
    os.kill(pid, signal.SIGSTOP)
    while _state(pid) not in "TZ":
        time.sleep(0.0001)  # tidy: allow sleep: the kernel stops it within microseconds


def gauges(gateway: Gateway) -> dict[str, float]:
    """Everything without labels that `/metrics` says."""
    text = httpx2.get(f"{gateway.direct_url}/metrics", timeout=10).text
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {sample.name: sample.value for sample in samples if not sample.labels}


BUSY = ("museway_running_requests", "museway_holds_open", "museway_open_slots", "museway_journal_pending_records")


def wait_at_rest(gateway: Gateway, within_s: float = _SETTLED_S) -> None:
    """Until nothing runs, is held, is open or waits for PostgreSQL. Raises AssertionError with what is left."""
    seen: dict[str, float] = {}

    def is_at_rest() -> bool:
        seen.update({name: value for name, value in gauges(gateway).items() if name in BUSY})
        return len(seen) == len(BUSY) and not any(seen.values())

    try:
        gateway.until(is_at_rest, within_s=within_s)
    except AssertionError:
        raise AssertionError(f"still busy after {within_s:g} s: {seen}") from None


class Held(Struct, frozen=True):
    """Descriptors of one process: TCP connections that clients opened to it and that it opened, files, pipes and the like.

    Connections to PostgreSQL (a Unix socket here) come and go with its pool, which bounds them.
    """

    clients: int
    outgoing: int
    files: int


def held(gateway: Gateway) -> Held:
    pid = worker_pid(gateway)
    ours, files = _descriptors(pid)
    listening, open_to = set[str](), dict[str, tuple[str, str]]()
    for name in ("tcp", "tcp6"):
        table = Path(f"/proc/{pid}/net/{name}")
        for row in table.read_text().splitlines()[1:] if table.exists() else ():
            words = row.split()
            local, state, inode = words[1].rpartition(":")[2], words[3], words[9]
            if state == _TCP_LISTEN and inode in ours:
                listening.add(local)
            open_to[inode] = (local, state)
    tcp = [open_to[inode] for inode in ours if inode in open_to and open_to[inode][1] != _TCP_LISTEN]
    clients = sum(local in listening for local, _ in tcp)
    return Held(clients, len(tcp) - clients, files)


def _descriptors(pid: int) -> tuple[set[str], int]:
    """The inodes of its sockets, and how many other descriptors it has, in one look."""
    found, files = set[str](), 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            match = _SOCKET.match(os.readlink(descriptor))
        except FileNotFoundError:
            continue
        if match:
            found.add(match[1])
        else:
            files += 1
    return found, files


def rss_bytes(pid: int) -> int:
    """Resident memory of a process, without what it shares through files."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no memory")
