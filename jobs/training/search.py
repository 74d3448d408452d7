"""Search over fields of a configuration through Ray Tune: trials fit on the training part, the validation part ranks them."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from sensorium.catalog.declaration import Source
from sensorium.catalog.lineage import Run
from sensorium.jobs.training import configuration, worker
from sensorium.jobs.training.checkpoints import FOLDER
from sensorium.jobs.training.fit import FitRequest, prepared
from sensorium.jobs.training.folds import single
from sensorium.jobs.training.recipe import better
from sensorium.jobs.training.worker import Job
from sensorium.platform.errors import InvalidSetting, WorkerFailed
from sensorium.platform.optional import require
from sensorium.platform.session import ray_session

if TYPE_CHECKING:
    from sensorium.catalog.lake import Catalog
    from sensorium.platform.settings import Settings

__all__ = ["SearchReport", "parse_space", "search"]

_FORM = re.compile(r"^\s*([\w.]+)\s*=\s*(log|uniform|int|choice)\((.*)\)\s*$")
#: a trial that is behind is stopped no earlier than after this part of its epochs
_GRACE = 0.25


@dataclass(frozen=True)
class Range:
    """Where one setting is looked for.

    Attributes:
        kind: ``log``, ``uniform`` (from low to high), ``int`` (both ends included) or ``choice``.
        values: the ends, or the choices as texts.
    """

    kind: str
    values: tuple[Any, ...]

    def domain(self, tune: Any) -> Any:
        """The range as Ray Tune's own."""
        if self.kind == "choice":
            return tune.choice(list(self.values))
        low, high = self.values
        return (
            {"log": tune.loguniform, "uniform": tune.uniform}[self.kind](low, high)
            if self.kind != "int"
            else (tune.randint(low, high + 1))
        )


@dataclass(frozen=True)
class SearchReport:
    """What a search found.

    Attributes:
        run: its id.
        trials: a row per trial: the settings, the figure that was watched, epochs, seconds; the best first.
        best: the settings of the best trial.
        config: the configuration with those.
    """

    run: str
    trials: pl.DataFrame
    best: dict[str, Any]
    config: Any


def parse_space(texts: Sequence[str]) -> dict[str, Range]:
    """``lr=log(1e-4,1e-2)``, ``width=int(8,64)``, ``dropout=uniform(0,0.5)``, ``kind=choice(a,b)``, also several by ``;``.

    Raises:
        InvalidSetting: none of these forms.
    """
    space: dict[str, Range] = {}
    for text in (part for joined in texts for part in joined.split(";") if part.strip()):
        match = _FORM.match(text)
        if match is None:
            raise InvalidSetting(
                f"--search takes KEY=log(a,b), KEY=uniform(a,b), KEY=int(a,b) or KEY=choice(a,b,…); got {text.strip()!r}."
            )
        key, kind, inner = match.groups()
        values = [value.strip() for value in inner.split(",") if value.strip()]
        space[key] = Range(kind, tuple(values)) if kind == "choice" else _ends(text, kind, values)
        if not values:
            raise InvalidSetting(f"--search: {text.strip()!r} names nothing to choose from.")
    if not space:
        raise InvalidSetting("--search names nothing to search over. Give KEY=log(a,b) or another range.")
    return space


def _ends(text: str, kind: str, values: Sequence[str]) -> Range:
    try:
        low, high = (int(value) if kind == "int" else float(value) for value in values)
    except ValueError as error:
        raise InvalidSetting(f"--search: {text.strip()!r} needs two numbers, the least and the greatest.") from error
    if not low < high or (kind == "log" and low <= 0):
        rule = "0 < least < greatest" if kind == "log" else "least < greatest"
        raise InvalidSetting(f"--search: {kind} needs {rule}; got {text.strip()!r}.")
    return Range(kind, (low, high))


def search(
    catalog: Catalog,
    request: FitRequest,
    space: Mapping[str, Range],
    settings: Settings,
    *,
    trials: int = 20,
    halving: bool = False,
) -> SearchReport:
    """Fit ``trials`` configurations drawn from ``space`` and rank them by the figure that the fit watches.

    The test part is never looked at. With ``halving``, trials that are behind are stopped early (ASHA).

    Raises:
        InvalidSetting: a key that the configuration does not have, or nothing is kept for validation.
        WorkerFailed: no trial came to an end.
    """
    if trials < 1:
        raise InvalidSetting(f"trials must be 1 or more; got {trials}.")
    middle = {key: found.values[0] for key, found in space.items()}
    configuration.overridden(request.config, middle)  # refuses unknown keys before anything starts
    _, dataset, rows = prepared(catalog, request)
    split = single(rows, request.config.split)
    if not split.validation:
        raise InvalidSetting("a search ranks by the validation part: set split.validation above 0.")
    source = Source(dataset.name, dataset.version)
    content = {**request.record(), "search": {key: [found.kind, *found.values] for key, found in space.items()}}
    run = Run("search", request.system, content, inputs=(source,))
    plain = configuration.to_json(request.config)
    job = Job(catalog.storage, request.system, plain, source.dataset, source.version, run.id, measure=False)
    worker.put_split(catalog.storage, run.id, split)
    try:
        with catalog.running(run), ray_session(settings):
            results = _tuned(job, request.config, space, trials, halving=halving)
            report = _ranked(run.id, request.config, results)
    finally:
        catalog.storage.remove(FOLDER, run.id)
    catalog.record(run.ended("finished", metrics={"best": report.best, "trials": report.trials.to_dicts()}))
    return report


def _tuned(job: Job, config: Any, space: Mapping[str, Range], trials: int, *, halving: bool) -> Any:
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one prints panels whatever its verbosity
    require("ray.tune", "search over configurations")
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.basic_variant import BasicVariantGenerator

    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    options = config.fit
    scheduler = None
    if halving:
        scheduler = ASHAScheduler(
            time_attr="epoch", max_t=options.epochs, grace_period=max(1, int(options.epochs * _GRACE))
        )
    folder = job.lake.below(FOLDER, job.run, "tune")
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, job=job), {"cpu": 1}),
        param_space={key: found.domain(tune) for key, found in space.items()},
        tune_config=tune.TuneConfig(
            metric="watched",
            mode=options.watch_mode,
            num_samples=trials,
            scheduler=scheduler,
            search_alg=BasicVariantGenerator(random_state=options.seed),
        ),
        run_config=tune.RunConfig(name="trials", storage_path=folder.root, verbose=0),
    )
    return tuner.fit()


def _trial(settings: Mapping[str, Any], job: Job) -> None:
    """One trial, in a worker of Ray Tune."""
    import torch
    from ray import tune

    from sensorium.jobs.training.context import alone
    from sensorium.jobs.training.method import method_of

    torch.set_num_threads(1)
    method = method_of(job.system)
    config = configuration.overridden(configuration.from_json(method.config, job.configuration), settings)
    options = config.fit
    best: list[float] = []

    def report(figures: dict[str, float]) -> None:
        watched = figures[options.watch]
        if not best or better(options, watched, best[0]):
            best[:] = [watched]
        tune.report({"watched": best[0], "epoch": int(figures["epoch"])})

    own = f"{job.run}/trial-{tune.get_context().get_trial_id()}"
    worker.put_split(job.lake, own, worker.read_split(job.lake, job.run))
    worker.train(replace(job, configuration=configuration.to_json(config), run=own), alone(), on_epoch=report)


def _ranked(run: str, config: Any, results: Any) -> SearchReport:
    options = config.fit
    done = [result for result in results if result.error is None and "watched" in (result.metrics or {})]
    rows = [
        {
            **result.config,
            options.watch: result.metrics["watched"],
            "epochs": result.metrics["epoch"],
            "seconds": round(result.metrics["time_total_s"], 2),
        }
        for result in done
    ]
    if not rows:
        errors = [str(result.error) for result in results if result.error is not None]
        raise WorkerFailed(f"no trial came to an end: {errors[0][-400:] if errors else 'no figures were reported'}.")
    table = pl.DataFrame(rows).sort(options.watch, descending=options.watch_mode == "max", nulls_last=True)
    best = {key: table[key][0] for key in done[0].config}
    return SearchReport(run, table, best, configuration.overridden(config, best))
