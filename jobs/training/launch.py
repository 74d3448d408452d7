"""Running a fit's worker function: in this process, as Ray tasks side by side, or as the workers of a Ray Train job."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sensorium.platform.errors import InvalidSetting, SensoriumError, WorkerFailed, ours
from sensorium.platform.optional import require
from sensorium.platform.progress import Progressed, progress

if TYPE_CHECKING:
    from sensorium.actors.run_tracker import RemoteRecorder
    from sensorium.jobs.training.loop import Curves
    from sensorium.jobs.training.worker import Job, Outcome

__all__ = ["in_process", "on_tasks", "on_workers", "prepare_workers"]

logger = logging.getLogger(__name__)

#: Ray Train's own intervals are for fits of hours; these take seconds off a small one
_QUICK = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
#: seconds between two looks at how far the workers are
_LOOK_EVERY_S = 0.5
#: a group of workers is started so often again after one was lost
_RESTARTS = 3


def in_process(job: Job, curves: Curves | None = None, on_epoch: Any = None) -> Outcome:
    """Fit in this process, without Ray."""
    _preload()
    from sensorium.jobs.training.context import alone
    from sensorium.jobs.training.worker import train

    return train(job, alone(), curves, on_epoch)


def _preload() -> None:
    """Import what the first optimiser of a process would import, for a second or so, while data is read."""
    threading.Thread(target=importlib.import_module, args=("torch._dynamo",), daemon=True).start()


def on_tasks(jobs: Sequence[Job], after: Callable[[Job], Any] | None = None) -> Iterator[tuple[int, Outcome, Any]]:
    """Fit each job in a Ray task of its own, as many at a time as there are cores, and an accelerator each if there are any.

    Args:
        jobs: with splits that are written.
        after: called in the task with the job when it is done; an importable function.

    Yields:
        Number of the job, its outcome, and what ``after`` gave, as they end.
    """
    ray = require("ray", "run folds side by side")
    gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=_RESTARTS)(_task)
    pending = {task.remote(job, after): index for index, job in enumerate(jobs)}
    while pending:
        (ready,), _ = ray.wait(list(pending), num_returns=1)
        index = pending.pop(ready)
        with _our_errors(ray):
            outcome, extra = ray.get(ready)
        yield index, outcome, extra


def _task(job: Job, after: Callable[[Job], Any] | None) -> tuple[Outcome, Any]:
    import torch

    from sensorium.jobs.training.context import alone
    from sensorium.jobs.training.worker import train

    torch.set_num_threads(1)
    outcome = train(job, alone())
    return outcome, None if after is None else after(job)


def prepare_workers() -> None:
    """Import Ray Train in a thread, while the session starts."""
    for name, value in _QUICK.items():
        os.environ.setdefault(name, value)

    def load() -> None:
        with contextlib.suppress(ImportError):  # told where it is used
            importlib.import_module("ray.train.torch")

    threading.Thread(target=load, name="sensorium-import", daemon=True).start()


def on_workers(job: Job, workers: int, curves: RemoteRecorder) -> None:
    """Fit on ``workers`` workers of Ray Train, on accelerators where the cluster has one for each.

    A worker that is lost is replaced, and the fit goes on from the newest checkpoint in the lake.

    Raises:
        InvalidSetting: the cluster has not the resources.
        WorkerFailed: workers were lost again and again.
    """
    ray = require("ray", "fit on several workers")
    require("ray.train", "fit on several workers")
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    resources = ray.cluster_resources()
    gpu = resources.get("GPU", 0) >= workers
    if resources.get("CPU", 0) < workers:
        raise InvalidSetting(
            f"{workers} workers need as many cores, and the cluster has {resources.get('CPU', 0):g}. Use fewer workers."
        )
    folder = job.lake.below("checkpoints", job.run, "ray")
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job, "curves": curves},
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=gpu, resources_per_worker=None if gpu else {"CPU": 1}
        ),
        run_config=RunConfig(
            name=job.run,
            storage_path=folder.root,
            storage_filesystem=_filesystem(folder),
            failure_config=FailureConfig(max_failures=_RESTARTS),
        ),
    )
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    with _our_errors(ray), _watched(curves):
        trainer.fit()


def _worker(config: dict[str, Any]) -> None:
    """What a worker of Ray Train runs."""
    import ray.train
    import ray.train.torch
    import torch

    from sensorium.jobs.training.context import Context, deterministic
    from sensorium.jobs.training.worker import train

    _preload()
    found = ray.train.get_context()
    device = ray.train.torch.get_device()
    if device.type == "cuda":
        deterministic()
    else:
        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
    context = Context(found.get_world_rank(), found.get_world_size(), device)
    outcome = train(config["job"], context, config["curves"])
    ray.train.report({"steps": outcome.steps, "seconds": outcome.seconds})


@contextmanager
def _watched(recorder: RemoteRecorder) -> Iterator[None]:
    """Show here how far the first worker is."""
    ended = threading.Event()

    lost = require("ray", "fit on several workers").exceptions.RayError

    def show() -> None:
        with contextlib.suppress(lost):  # the fit itself tells of a recorder that is gone
            while not ended.wait(_LOOK_EVERY_S):
                seen = recorder.told()
                if seen is not None:
                    _show_phase(recorder, seen, ended)

    watcher = threading.Thread(target=show, name="sensorium-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _show_phase(recorder: RemoteRecorder, seen: Progressed, ended: threading.Event) -> None:
    """A bar for one phase of a fit, until another begins or the fit ends."""
    with progress(seen.title, total=seen.total, unit=seen.unit) as bar:
        done, now = 0.0, seen
        while now.title == seen.title:
            bar.advance(now.done - done)
            bar.note(now.note)
            done = now.done
            if ended.wait(_LOOK_EVERY_S):
                return
            now = recorder.told() or now


def _filesystem(folder: Any) -> Any:
    """The folder's file system for Ray Train; None for a local one, which it finds by itself."""
    if folder.local:
        return None
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return PyFileSystem(FSSpecHandler(folder.fs))


@contextmanager
def _our_errors(ray: Any) -> Iterator[None]:
    """Raise what a worker raised of ours as itself, and what Ray raised as ours."""
    try:
        yield
    except SensoriumError:
        raise
    except Exception as error:
        own = ours(error)
        if own is not None:
            raise own from None
        if isinstance(error, ray.exceptions.RayError) or type(error).__module__.startswith("ray."):
            text = " ".join(str(error).split())
            raise WorkerFailed(
                f"the fit's workers failed: {text[-600:]} Resume it with --resume once the cause is mended."
            ) from error
        raise
