"""One place that records a run: its curves, pictures and end, in the lake and with the tracker alike.

In process, a fit talks to a :class:`Recorder`; on a cluster, to an actor that holds one (:mod:`.run_tracker`), so that the
records outlive any worker.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sensorium.catalog.lineage import Record, Run, record_run
from sensorium.platform.progress import Progressed
from sensorium.platform.storage import Storage
from sensorium.platform.tracking import Silent, Tracked, Tracker, open_tracker

__all__ = ["Recorder", "RunRecords", "start"]

#: seconds between two commits of curves to the lake
_COMMIT_EVERY_S = 20.0
#: where pictures and tables of runs are, below the lake
REPORTS = "reports"


@dataclass(frozen=True)
class RunRecords:
    """How a run is recorded.

    Attributes:
        lake: with the table of runs.
        run: as it is recorded while it runs.
        track: mode of the tracker.
        tracked: what the tracker calls it.
        folder: for the tracker's files where the lake is not on a local disk; empty for a temporary one.
    """

    lake: Storage
    run: Run
    track: str
    tracked: Tracked
    folder: str = ""


class Recorder:
    """Records one run. Curves are committed to the lake now and then, everything else at once."""

    def __init__(self, records: RunRecords) -> None:
        self._lake, self._run = records.lake, records.run
        folder = records.folder or (
            records.lake.at_path("tracking") if records.lake.local else tempfile.mkdtemp(prefix="sensorium-tracking-")
        )
        self._tracker: Tracker = (
            open_tracker(records.track, records.tracked, Path(folder)) if records.track != "off" else Silent()
        )
        self._waiting: list[Record] = []
        self._committed = time.monotonic()
        record_run(self._lake, self._run)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Values of curves after ``step`` steps."""
        self._waiting += [Record(step, name, float(value)) for name, value in values.items()]
        self._tracker.log(step, values)
        if time.monotonic() - self._committed > _COMMIT_EVERY_S:
            self.flush()

    def tell(self, progressed: Progressed) -> None:
        """Not needed: what is fitted in this process shows its own bar."""

    def picture(self, name: str, content: bytes) -> str:
        """Keep a picture (a PNG's bytes); returns where it is in the lake."""
        place = f"{REPORTS}/{self._run.id}/{name}.png"
        self._lake.write(content, *place.split("/"))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.png"
            path.write_bytes(content)
            self._tracker.picture(name, path)
        self._run = replace(self._run, files=(*self._run.files, place))
        return place

    def confusion(self, name: str, matrix: list[list[float]], classes: list[str]) -> None:
        """A confusion matrix, for the tracker's own table."""
        self._tracker.confusion(name, matrix, classes)

    def artifact(self, name: str, kind: str, files: Mapping[str, bytes], metadata: Mapping[str, Any]) -> None:
        """Files that the run made, such as a model."""
        self._tracker.artifact(name, kind, files, metadata)

    def finish(self, run: Run) -> None:
        """Record the last state of the run."""
        final = replace(run, files=self._run.files)
        waiting, self._waiting = self._waiting, []
        record_run(self._lake, final, waiting)
        flat = {name: value for name, value in final.metrics.items() if isinstance(value, int | float | str)}
        nested = {
            f"{name}/{part}": number
            for name, value in final.metrics.items()
            if isinstance(value, Mapping)
            for part, number in value.items()
        }
        self._tracker.finish(final.state == "failed", {**flat, **nested, "state": final.state})

    def flush(self) -> None:
        """Commit what waits to the lake."""
        waiting, self._waiting = self._waiting, []
        self._committed = time.monotonic()
        record_run(self._lake, self._run, waiting)


def start(records: RunRecords) -> Recorder:
    """Begin to record a run."""
    return Recorder(records)
