"""Machines that go away, or hang, under a command."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sensorium.catalog import Catalog
from tests.chaos.nodes import Nodes, cluster, descendants, raylet
from tests.chaos.outcome import Outcome, Unavailable, finished, waited
from tests.chaos.work import FIT, INGEST, PREDICT, SWEEP, Work, sweep_of

__all__ = ["committer_lost", "fit_loses", "hung_node", "ingest_loses", "predict_loses", "slow_node", "sweep_loses"]

_SLOW_S, _AWAKE_S, _LONGEST_S = 1.0, 5.0, 60.0
_PLACES = 4
#: Ray's own settings, shorter: a node that is silent is given up after 15 s, and a call that it does not answer after minutes
_SILENCE = {
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
    "grpc_client_keepalive_time_ms": 5000,
    "grpc_client_keepalive_timeout_ms": 5000,
}


def struck(folder: Path, work: Work, nodes: Nodes, actor: str = "") -> Outcome:
    """Take a node away as soon as the work shows in the lake; another comes where the work needs as many.

    Raises:
        Unavailable: the node that ``actor`` runs on was asked for, and it is the head.
    """
    catalog = Catalog(folder / "lake")
    work.prepare(catalog, folder)
    process = nodes.run(folder / "lake", *work.words(folder))
    waited(lambda: work.begun(catalog), f"the beginning of {work.name}", alive=process)
    doomed = nodes.node_of(actor) if actor else nodes.workers()[0]
    if doomed is None:
        finished(process)
        raise Unavailable(f"the {actor} was on the head")
    nodes.kill(doomed)
    struck_at, running = time.monotonic(), process.poll() is None
    if len(nodes.workers()) < work.nodes:
        nodes.add()
    code = finished(process)
    ended = "well" if code == 0 else f"with code {code}"
    ledger = work.ledger(catalog)
    timely = "" if running else "; the work was over before"
    told = f"ended {ended} {time.monotonic() - struck_at:.0f} s after the node was gone; {ledger}{timely}"
    return Outcome("the command goes on and ends well", told, code == 0 and ledger.whole and running)


def ingest_loses(folder: Path) -> Outcome:
    with cluster(2) as nodes:
        return struck(folder, INGEST, nodes)


def sweep_loses(folder: Path) -> Outcome:
    with cluster(2) as nodes:
        return struck(folder, SWEEP, nodes)


def committer_lost(folder: Path) -> Outcome:
    for attempt in range(_PLACES):  # an actor without cores is put on any node, the head among them
        with contextlib.suppress(Unavailable), cluster(2) as nodes:
            return struck(folder / str(attempt), SWEEP, nodes, actor="Committer")
    raise Unavailable("the committer was always on the head")


def fit_loses(folder: Path) -> Outcome:
    with cluster(2) as nodes:
        return struck(folder, FIT, nodes)


def predict_loses(folder: Path) -> Outcome:
    with cluster(2) as nodes:
        return struck(folder, PREDICT, nodes)


@contextmanager
def frozen(processes: list[int]) -> Iterator[None]:
    """Let processes stand still for the length of the block."""
    try:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def slow_node(folder: Path) -> Outcome:
    """A node that works a third of the time."""
    work, pauses = sweep_of(48), 0
    with cluster(2) as nodes:
        catalog = Catalog(folder / "lake")
        work.prepare(catalog, folder)
        process = nodes.run(folder / "lake", *work.words(folder))
        waited(lambda: work.begun(catalog), "the beginning of the sweep", alive=process)
        began = time.monotonic()
        while process.poll() is None and time.monotonic() - began < _LONGEST_S:
            with frozen(descendants(raylet(nodes.workers()[0]))):
                time.sleep(_SLOW_S)
            pauses += 1
            time.sleep(_SLOW_S / 2)
        code = finished(process)
        ledger = work.ledger(catalog)
    told = f"ended {'well' if code == 0 else f'with code {code}'} after {pauses} pauses of {_SLOW_S:.0f} s; {ledger}"
    return Outcome("it is waited for, and the command ends well", told, code == 0 and ledger.whole and pauses > 1)


def hung_node(folder: Path) -> Outcome:
    """A node that hangs until it is given up and its work is done, and wakes then."""
    with cluster(2, system=_SILENCE) as nodes:
        catalog = Catalog(folder / "lake")
        SWEEP.prepare(catalog, folder)
        process = nodes.run(folder / "lake", *SWEEP.words(folder))
        waited(lambda: SWEEP.begun(catalog), "the beginning of the sweep", alive=process)
        running, began = process.poll() is None, time.monotonic()
        root = raylet(nodes.workers()[0])
        before = nodes.alive()
        with frozen([*descendants(root), root]):
            waited(lambda: nodes.alive() < before, "the node to be given up", _LONGEST_S)
            given_up = time.monotonic() - began
            code = finished(process, _LONGEST_S)
            seconds = time.monotonic() - began
        time.sleep(_AWAKE_S)  # whatever it still wants to do
        ledger = SWEEP.ledger(catalog)
    ended = "ended well" if code == 0 else f"ended with code {code}"
    told = f"given up after {given_up:.0f} s, {ended} after {seconds:.0f} s, awake after that; {ledger}"
    promise = "its work is done elsewhere, and not a second time when it wakes"
    return Outcome(promise, told, code == 0 and ledger.whole and running)
