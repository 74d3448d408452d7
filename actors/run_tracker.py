"""The recorder of a run as an actor, so that the records are written in one place and outlive any worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray

from sensorium.actors.recorder import Recorder, RunRecords
from sensorium.catalog.lineage import Run
from sensorium.platform.progress import Progressed

__all__ = ["RemoteRecorder", "start"]


@ray.remote(num_cpus=0)
class _RunTracker:
    """Holds the recorder; calls arrive in the order in which each caller makes them."""

    def __init__(self, records: RunRecords) -> None:
        self._recorder = Recorder(records)
        self._progressed: Progressed | None = None

    def tell(self, progressed: Progressed) -> None:
        self._progressed = progressed

    def told(self) -> Progressed | None:
        return self._progressed

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._recorder.log(step, values)

    def flush(self) -> None:
        self._recorder.flush()

    def picture(self, name: str, content: bytes) -> str:
        return self._recorder.picture(name, content)

    def confusion(self, name: str, matrix: list[list[float]], classes: list[str]) -> None:
        self._recorder.confusion(name, matrix, classes)

    def artifact(self, name: str, kind: str, files: Mapping[str, bytes], metadata: Mapping[str, Any]) -> None:
        self._recorder.artifact(name, kind, files, metadata)

    def finish(self, run: Run) -> None:
        self._recorder.finish(run)


class RemoteRecorder:
    """A recorder behind an actor; it can be sent to workers, and curves are logged without waiting."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Values of curves after ``step`` steps."""
        self._actor.log.remote(step, dict(values))

    def tell(self, progressed: Progressed) -> None:
        """How far a worker is, without waiting."""
        self._actor.tell.remote(progressed)

    def told(self) -> Progressed | None:
        """What was told last."""
        found: Progressed | None = ray.get(self._actor.told.remote())
        return found

    def flush(self) -> None:
        """Commit what waits to the lake."""
        ray.get(self._actor.flush.remote())

    def picture(self, name: str, content: bytes) -> str:
        """Keep a picture (a PNG's bytes); returns where it is in the lake."""
        return str(ray.get(self._actor.picture.remote(name, content)))

    def confusion(self, name: str, matrix: list[list[float]], classes: list[str]) -> None:
        """A confusion matrix, for the tracker's own table."""
        ray.get(self._actor.confusion.remote(name, matrix, classes))

    def artifact(self, name: str, kind: str, files: Mapping[str, bytes], metadata: Mapping[str, Any]) -> None:
        """Files that the run made, such as a model."""
        ray.get(self._actor.artifact.remote(name, kind, dict(files), dict(metadata)))

    def finish(self, run: Run) -> None:
        """Record the last state of the run; the actor ends."""
        ray.get(self._actor.finish.remote(run))
        ray.kill(self._actor)


def start(records: RunRecords) -> RemoteRecorder:
    """Begin to record a run in an actor of the present Ray session."""
    return RemoteRecorder(_RunTracker.remote(records))  # type: ignore[attr-defined]
