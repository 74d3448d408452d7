"""Run a change of a data set with a fault at one storage call after the other, and look at what is left each time.

``python faults.py TEMPLATE FOLDER OPERATION FIRST STEP OFFSET``: for k = FIRST, FIRST + STEP, … a copy of the lake TEMPLATE is
changed by OPERATION, and the k-th call that reaches storage (open, write, fsync, rename, removal, listing, commit) fails, in
turn because the process is killed, the disk is full, the disk is broken, or permission is gone; OFFSET says which comes first.
A line of JSON tells of each; the last one says that fewer than k calls were made.

``python faults.py TEMPLATE OPERATION template`` makes the lake TEMPLATE.

Every trial is a forked process. This one only imports, so that there is no thread that a fork would lose.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import deltalake
import numpy as np
from deltalake.exceptions import DeltaError

from sensorium.catalog import Catalog, Dataset, fragments, upkeep
from sensorium.catalog import table as table_module
from sensorium.platform.errors import SensoriumError

_FAULTS = ("kill", "ENOSPC", "EIO", "EACCES")
#: audit event -> positions of the paths among its arguments
_EVENTS = {
    "open": (0,),
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.listdir": (0,),
    "os.scandir": (0,),
    "os.link": (0, 1),
    "shutil.rmtree": (0,),
}


class Fault:
    """Fails the k-th call below ``root``, in the way that is asked for; counts on after that."""

    def __init__(self, root: str, number: int, kind: str) -> None:
        self.root, self.number, self.kind = root, number, kind
        self.count, self.event, self.active = 0, "", False

    def reached(self, event: str) -> None:
        if not self.active:
            return
        self.count += 1
        if self.count != self.number:
            return
        self.event = event
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        code = getattr(errno, self.kind)
        text = f"{os.strerror(code)} (os error {code})"
        if event.startswith("commit"):
            raise DeltaError(f"Generic LocalFileSystem error: {text}")
        raise OSError(code, os.strerror(code), self.root)

    def audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.active and event in _EVENTS:
            paths = [str(arguments[index]) for index in _EVENTS[event]]
            # a relative path is one in a folder that is being removed; Python's own import hooks ask for some, too
            if any(path.startswith(self.root) or path[:1] not in "/_" for path in paths):
                self.reached(f"{event} {paths[0].removeprefix(self.root)}")

    def install(self) -> None:
        sys.addaudithook(self.audited)
        for name in ("fsync", "writev"):
            setattr(os, name, self.wrapped(name, getattr(os, name)))
        for name in ("create_write_transaction", "create_checkpoint"):
            setattr(deltalake.DeltaTable, name, self.wrapped("commit " + name, getattr(deltalake.DeltaTable, name)))
        alterer = deltalake.table.TableAlterer
        alterer.set_table_properties = self.wrapped("commit properties", alterer.set_table_properties)  # type: ignore[method-assign]
        table_module.write_deltalake = self.wrapped("commit widening", table_module.write_deltalake)  # type: ignore[attr-defined]

    def wrapped(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self.reached(name)
            result = plain(*arguments, **more)
            if name.startswith("commit"):
                self.reached(name + ", done")
            return result

        return call


def image(value: int) -> np.ndarray:
    return np.full((4, 3, 3), value + 1, np.uint8)


NEW = ("n0", "n1")


def append(dataset: Dataset) -> None:
    dataset.append([{"id": name, "image": image(100 + n)} for n, name in enumerate(NEW)], existing="skip")


def compact(dataset: Dataset) -> None:
    dataset.compact()


def vacuum(dataset: Dataset) -> None:
    dataset.vacuum(timedelta(0), grace=timedelta(0), dry_run=False)


OPERATIONS: dict[str, Callable[[Dataset], None]] = {"append": append, "compact": compact, "vacuum": vacuum}


def template(folder: Path, operation: str) -> None:
    """A lake on which ``operation`` does all that it can do."""
    dataset = Catalog(folder).create("photos", modality="image")
    for number in range(3):  # the fourth merges table files too
        dataset.append([{"id": f"{number:02d}", "image": image(number)}])
    if operation == "vacuum":
        dataset.tag("kept", 2)
        dataset.update([{"id": "02", "image": image(2)}])
        dataset.compact()


def state(dataset: Dataset) -> dict[str, int]:
    """The samples, by what is in their images."""
    return {sample.id: int(sample["image"].ravel()[0]) - 1 for sample in dataset.select()}


def trial(lake: Path, operation: str, fault: Fault) -> dict[str, Any]:
    """Change with a fault; says what became of it."""
    dataset = Catalog(lake)["photos"]
    fault.install()
    fault.active = True
    told: dict[str, Any] = {"outcome": "done"}
    try:
        OPERATIONS[operation](dataset)
    except SensoriumError as error:
        told = {"outcome": "error", "kind": type(error).__name__, "message": str(error)}
    except BaseException as error:
        told = {"outcome": "foreign", "kind": type(error).__name__, "message": traceback.format_exc()}
    fault.active = False
    return {**told, "event": fault.event, "calls": fault.count}


def look(lake: Path, template: Path, operation: str, told: dict[str, Any]) -> list[str]:
    """What is wrong with the lake after a trial; the change is then made again."""
    wrong: list[str] = []
    before = state(Catalog(template)["photos"])
    new = {name: 100 + n for n, name in enumerate(NEW)}
    after = {**before, **new} if operation == "append" else before
    dataset = Catalog(lake)["photos"]
    found = state(dataset)
    if found not in (before, after):
        wrong.append(f"holds {found}")
    if told["outcome"] == "done" and found != after:
        wrong.append("was told to be done, and is not")
    if told["outcome"] == "foreign":
        wrong.append(f"raised an error that is not ours: {told['message']}")
    if told["outcome"] == "error" and not ("photos" in told["message"] and told["message"].endswith(".")):
        wrong.append(f"names no place: {told['message']}")
    if not dataset.verify().is_empty():
        wrong.append("is damaged")
    OPERATIONS[operation](dataset)
    if state(dataset) != after or not dataset.verify().is_empty():
        wrong.append("is not as it should be after the change was made again")
    if operation == "vacuum":
        kept = Catalog(lake).dataset("photos", "kept")
        if len(kept) != 2 or not kept.verify().is_empty():
            wrong.append("the tagged version is damaged")
    dataset.vacuum(timedelta(0), grace=timedelta(0), dry_run=False)
    needed = {row["fragment"] for row in dataset.select().rows["image"]}
    if operation != "vacuum" and set(dataset.storage.folders(fragments.FOLDER)) != needed:
        wrong.append("vacuum leaves what nobody needs")
    return wrong


def forked(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``work`` returns, in a process of its own; how that ended where it did not return."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            answer = work()
        except BaseException:
            answer = {"outcome": "foreign", "message": traceback.format_exc(), "wrong": [traceback.format_exc()]}
        with os.fdopen(writing, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text else {"outcome": "killed", "signal": os.WTERMSIG(status)}


def main(given: str, folder: str, operation: str, first: int, step: int, offset: int) -> None:
    lake = Path(folder) / "lake"
    for trials, number in enumerate(itertools.count(first, step)):
        kind = _FAULTS[(trials + offset) % len(_FAULTS)]
        shutil.rmtree(lake, ignore_errors=True)
        shutil.copytree(given, lake)
        told = forked(lambda n=number, k=kind: trial(lake, operation, Fault(str(lake), n, k)))  # type: ignore[misc]
        ended = told.get("calls", number) < number
        if not ended:
            told |= forked(lambda t=told: {"wrong": look(lake, Path(given), operation, t)})  # type: ignore[misc]
        sys.stdout.write(json.dumps({"number": number, "fault": kind, "ended": ended, **told}) + "\n")
        sys.stdout.flush()
        if ended:
            return


if __name__ == "__main__":
    upkeep._FACTOR = 4
    if sys.argv[3] == "template":
        template(Path(sys.argv[1]), sys.argv[2])
    else:
        main(*sys.argv[1:4], *map(int, sys.argv[4:]))
