"""The user's command is killed, or the head of the cluster dies under it: the same command goes on."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sensorium.catalog import Catalog
from tests.chaos.nodes import Nodes, cluster
from tests.chaos.outcome import Outcome, Unavailable, command, finished, start, waited
from tests.chaos.work import FIT, INGEST, LONG_SWEEP, PREDICT, SWEEP, Work

__all__ = [
    "driver_of_fit", "driver_of_ingest", "driver_of_predict", "driver_of_sweep", "head_comes_back", "head_lost", "local_driver",
]  # fmt: skip

#: seconds after which the nodes give up a head that is gone; 60 by itself
_GIVEN_UP_S = 10
_AWAY_S = 10.0
_AGAIN = "what was committed stays; the same command does the rest"


def killed(folder: Path, work: Work, nodes: Nodes) -> Outcome:
    """Kill the command when its work shows in the lake, and give it again."""
    catalog = Catalog(folder / "lake")
    work.prepare(catalog, folder)
    process = nodes.run(folder / "lake", *work.words(folder))
    waited(lambda: work.begun(catalog), f"the beginning of {work.name}", alive=process)
    running = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    left = "a checkpoint" if work is FIT else f"{_there(work, catalog)} there"
    return _again(folder, work, nodes, f"killed with {left}", running=running)


def _there(work: Work, catalog: Catalog) -> int:
    ledger = work.ledger(catalog)
    return ledger.expected - ledger.lost


def _again(folder: Path, work: Work, nodes: Nodes, told: str, *, running: bool) -> Outcome:
    """Give the command a second time, and judge."""
    code = finished(nodes.run(folder / "lake", *work.words(folder)))
    ledger = work.ledger(Catalog(folder / "lake"))
    ended = "well" if code == 0 else f"with code {code}"
    early = "" if running else "; the work was over before"
    return Outcome(
        _AGAIN, f"{told}; the same command ended {ended}; {ledger}{early}", code == 0 and ledger.whole and running
    )


def driver_of_ingest(folder: Path) -> Outcome:
    with cluster(2) as nodes:
        return killed(folder, INGEST, nodes)


def driver_of_sweep(folder: Path) -> Outcome:
    with cluster(2) as nodes:
        return killed(folder, SWEEP, nodes)


def driver_of_fit(folder: Path) -> Outcome:
    with cluster(2) as nodes:
        return killed(folder, FIT, nodes)


def driver_of_predict(folder: Path) -> Outcome:
    with cluster(2) as nodes:
        return killed(folder, PREDICT, nodes)


def local_driver(folder: Path) -> Outcome:
    """An import without Ray: killed with the processes that read for it."""
    catalog, log = Catalog(folder / "lake"), folder / "commands.log"
    INGEST.prepare(catalog, folder)
    words = [word for word in INGEST.words(folder) if word != "--ray"]
    process = start(command("--lake", folder / "lake", *words), log)
    waited(lambda: INGEST.begun(catalog), "the beginning of the import", alive=process)
    running = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    there = _there(INGEST, catalog)
    code = finished(start(command("--lake", folder / "lake", *words), log))
    ledger = INGEST.ledger(catalog)
    told = f"killed with {there} there; the same command ended {'well' if code == 0 else f'with code {code}'}; {ledger}"
    return Outcome(_AGAIN, told, code == 0 and ledger.whole and running)


# -- the head ----------------------------------------------------------------------------------------------------------


def head_lost(folder: Path) -> Outcome:
    """The head dies for good; what it knew was in its memory."""
    catalog = Catalog(folder / "lake")
    LONG_SWEEP.prepare(catalog, folder)
    with cluster(2, system={"gcs_rpc_server_reconnect_timeout_s": _GIVEN_UP_S}) as nodes:
        process = nodes.run(folder / "lake", *LONG_SWEEP.words(folder))
        waited(lambda: LONG_SWEEP.begun(catalog), "the beginning of the sweep", alive=process)
        nodes.kill_head()
        began = time.monotonic()
        code = finished(process)
        seconds, there = time.monotonic() - began, _there(LONG_SWEEP, catalog)
    with cluster(2) as nodes:
        ended = "had to be ended" if code is None else f"ended with code {code}"
        told = f"the command {ended} {seconds:.0f} s later with {there} there; on a new cluster"
        return _again(folder, LONG_SWEEP, nodes, told, running=code != 0)


def head_comes_back(folder: Path) -> Outcome:
    """The head dies and comes back, with what it had written to Redis."""
    catalog = Catalog(folder / "lake")
    LONG_SWEEP.prepare(catalog, folder)
    with redis(folder) as address, cluster(2, redis=address) as nodes:
        process = nodes.run(folder / "lake", *LONG_SWEEP.words(folder))
        waited(lambda: LONG_SWEEP.begun(catalog), "the beginning of the sweep", alive=process)
        nodes.kill_head()
        time.sleep(_AWAY_S)
        nodes.revive_head()
        there, running = _there(LONG_SWEEP, catalog), process.poll() is None
        code = finished(process)
        ledger = LONG_SWEEP.ledger(catalog)
        ended = "well" if code == 0 else f"with code {code}"
        told = f"away for {_AWAY_S:.0f} s, {there} there when it was back; the command ended {ended}; {ledger}"
        if code == 0:
            return Outcome("the command goes on, and ends well", told, ledger.whole and running)
        return _again(folder, LONG_SWEEP, nodes, told, running=running)


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis of our own; its address."""
    program = shutil.which("redis-server")
    if program is None:
        raise Unavailable("no program `redis-server` (Debian: redis-server)")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    line = [
        program,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
    ]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as process:
        try:
            waited(lambda: _answers(port), "an answer of Redis", 10, alive=None)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
