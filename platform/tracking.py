"""Experiment tracking with Weights & Biases: one run per fit, from one place.

The mode is ``online`` with a key, ``offline`` without one (files that ``wandb sync`` sends later), or ``off``. Starting a run
takes seconds, so a thread does it, and everything that is logged meanwhile waits in its queue: a fit never waits for the
tracker, and a tracker that fails never stops a fit.
"""

from __future__ import annotations

import logging
import netrc
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sensorium.platform.errors import InvalidSetting
from sensorium.platform.optional import require

__all__ = ["MODES", "Silent", "Tracked", "Tracker", "open_tracker", "resolve_mode"]

logger = logging.getLogger(__name__)

#: as the user says them
MODES = ("auto", "online", "offline", "off")
_HOST = "api.wandb.ai"


@dataclass(frozen=True)
class Tracked:
    """What a run is called.

    Attributes:
        id: unique in the project; a run that is resumed keeps it.
        name: for people.
        kind: ``fit``, ``evaluate`` …
        project: that it belongs to.
        group: of runs that belong together, such as the folds of a cross-validation.
        tags: to find it by.
        configuration: everything that was set, and what the figures depend on besides.
    """

    id: str
    name: str
    kind: str
    project: str = "sensorium"
    group: str = ""
    tags: tuple[str, ...] = ()
    configuration: Mapping[str, Any] = field(default_factory=dict)


class Tracker(Protocol):
    """Where the records of a run go."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Values of curves after ``step`` steps."""

    def picture(self, name: str, path: Path) -> None:
        """A picture (PNG); the file is read before this returns control to others."""

    def confusion(self, name: str, matrix: list[list[float]], classes: list[str]) -> None:
        """A confusion matrix: rows are the true classes."""

    def artifact(self, name: str, kind: str, files: Mapping[str, bytes], metadata: Mapping[str, Any]) -> None:
        """Files that the run made, such as a model."""

    def finish(self, failed: bool, summary: Mapping[str, Any]) -> None:
        """The end, with the final figures; waits until everything is written."""


class Silent:
    """A tracker that keeps nothing."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def picture(self, name: str, path: Path) -> None:
        """Nothing."""

    def confusion(self, name: str, matrix: list[list[float]], classes: list[str]) -> None:
        """Nothing."""

    def artifact(self, name: str, kind: str, files: Mapping[str, bytes], metadata: Mapping[str, Any]) -> None:
        """Nothing."""

    def finish(self, failed: bool, summary: Mapping[str, Any]) -> None:
        """Nothing."""


def resolve_mode(mode: str) -> str:
    """``auto`` as ``online`` where there is a key, else ``offline``; ``WANDB_MODE`` wins over ``auto``.

    Raises:
        InvalidSetting: no such mode.
    """
    if mode not in MODES:
        raise InvalidSetting(f"track must be one of {', '.join(MODES)}; got {mode!r}.")
    if mode != "auto":
        return mode
    wanted = os.environ.get("WANDB_MODE", "").lower()
    if wanted in ("disabled", "off"):
        return "off"
    if wanted in ("online", "offline"):
        return wanted
    return "online" if _has_key() else "offline"


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(os.environ.get("WANDB_HOST", _HOST)) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def open_tracker(mode: str, tracked: Tracked, folder: Path) -> Tracker:
    """A tracker for a run; offline files go below ``folder``.

    Raises:
        MissingDependency: tracking was asked for by name, and wandb is not installed (``auto`` goes without).
    """
    chosen = resolve_mode(mode)
    if chosen == "off":
        return Silent()
    if mode == "auto":
        from importlib.util import find_spec

        if find_spec("wandb") is None:
            logger.info("wandb is not installed: the run is recorded in the lake only.")
            return Silent()
    else:
        require("wandb", "track a run")
    return _Background(chosen, tracked, folder)


class _Background:
    """A W&B run behind a queue that one thread works off."""

    def __init__(self, mode: str, tracked: Tracked, folder: Path) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sensorium-track")
        self._run: Any = None
        self._failed = False
        self._mode, self._tracked, self._folder = mode, tracked, folder
        self._submit(self._open)

    def _open(self) -> None:
        import wandb

        self._folder.mkdir(parents=True, exist_ok=True)
        tracked = self._tracked
        self._run = wandb.init(
            project=tracked.project,
            id=tracked.id,
            name=tracked.name,
            job_type=tracked.kind,
            group=tracked.group or None,
            tags=list(tracked.tags),
            config=dict(tracked.configuration),
            dir=str(self._folder),
            mode="online" if self._mode == "online" else "offline",
            resume="allow",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        # steps may come again after a fault, so they are an axis of ours, not W&B's own counter
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        held = dict(values)
        self._submit(lambda: self._run.log({**held, "step": step}))

    def picture(self, name: str, path: Path) -> None:
        def send() -> None:
            import wandb

            self._run.log({name: wandb.Image(str(path))})

        self._submit(send, wait=True)

    def confusion(self, name: str, matrix: list[list[float]], classes: list[str]) -> None:
        def send() -> None:
            import wandb

            rows = [
                [truth, found, matrix[row][column]]
                for row, truth in enumerate(classes)
                for column, found in enumerate(classes)
            ]
            self._run.log({name: wandb.Table(columns=["actual", "predicted", "count"], data=rows)})

        self._submit(send)

    def artifact(self, name: str, kind: str, files: Mapping[str, bytes], metadata: Mapping[str, Any]) -> None:
        def send() -> None:
            import wandb

            artifact = wandb.Artifact(name, type=kind, metadata=dict(metadata))
            for path, content in files.items():
                with artifact.new_file(path, mode="wb") as file:
                    file.write(content)
            self._run.log_artifact(artifact)

        self._submit(send)

    def finish(self, failed: bool, summary: Mapping[str, Any]) -> None:
        def send() -> None:
            self._run.summary.update(dict(summary))
            self._run.finish(exit_code=int(failed))

        self._submit(send, wait=True)
        self._thread.shutdown()
        if self._mode == "offline" and not self._failed:
            logger.info("tracked offline; send it with: wandb sync %s", self._folder / "wandb")

    def _submit(self, work: Callable[[], None], *, wait: bool = False) -> None:
        def guarded() -> None:
            if self._failed:
                return
            try:
                work()
            except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the fit goes on; the lake has the records
                self._failed = True
                logger.warning("tracking stopped: %s: %s. The lake's own records go on.", type(error).__name__, error)

        future = self._thread.submit(guarded)
        if wait:
            future.result()
