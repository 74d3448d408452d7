"""Fits through the platform against plain loops over the same networks, steps and batches with everything in memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from sensorium.catalog import Catalog
from sensorium.jobs.training.checkpoints import module_tensors
from sensorium.jobs.training.configuration import overridden
from sensorium.jobs.training.context import alone
from sensorium.jobs.training.fit import FitRequest, fit
from sensorium.jobs.training.folds import k_folds, split_frame
from sensorium.jobs.training.method import Method, method_of, ready, samples_of
from sensorium.jobs.training.recipe import Moment, Recipe, Workspace
from sensorium.platform.settings import Settings
from sensorium.platform.tables import print_rows


@dataclass(frozen=True)
class Case:
    """A fit that takes some tens of seconds.

    Attributes:
        system: that is fitted.
        seeds: so many times the system's own made-up samples.
        settings: of the configuration.
    """

    system: str
    seeds: int
    settings: tuple[str, ...]


CASES = (
    Case("water_pollutants", 6, ("stride=6", "epochs=3", "patience=0", "folds=4")),
    Case("water_pollutants", 6, ("network=lstm", "optimiser=adam", "stride=2", "epochs=24", "patience=0", "folds=4")),
    Case(
        "eeg_obesity",
        12,
        ("vae_fit.epochs=16", "vae_fit.patience=0", "fit.epochs=60", "fit.patience=0", "split.folds=4"),
    ),
    Case("clinical_series", 20, ("epochs=24", "patience=0", "split.folds=4")),
)


def samples(method: Method, config: Any, seeds: int) -> Iterator[dict[str, Any]]:
    """Made-up samples of several seeds, each in groups of its own."""
    group = config.split.group
    for seed in range(seeds):
        made, attributes = method.example(config, seed)
        for sample in made:
            own = {"id": f"{seed:03}-{sample['id']}"}
            if group != "id":
                value = sample[group]
                own[group] = value + 1000 * seed if isinstance(value, int) else f"{seed:03}-{value}"
            yield {**attributes, **sample, **own}


def plain_fit(method: Method, config: Any, space: Workspace, test: Sequence[dict[str, Any]]) -> float:
    """Seconds of the phases and of the test part in loops that somebody would write by hand; all is in memory before."""
    seconds = 0.0
    for phase in method.phases(config):
        recipe = phase.recipe(space)
        train = recipe.examples.pool(recipe.examples.selection.read())
        kept = recipe.validation
        validation = None if kept is None else kept.pool(kept.selection.read())
        started = time.perf_counter()
        _loop(recipe, train, validation)
        seconds += time.perf_counter() - started
    started = time.perf_counter()
    fitted = ready(config, space.preprocessing, space.modules, torch.device("cpu"))
    rows = []
    for start in range(0, len(test), 64):
        part = test[start : start + 64]
        for sample, prediction in zip(part, method.predict(fitted, part), strict=True):
            rows.append({"id": sample["id"], **(method.score(fitted, sample, prediction) or {})})
    return seconds + time.perf_counter() - started


def _loop(recipe: Recipe, train: Any, validation: Any) -> None:
    size, moment = recipe.options.batch_size, Moment()

    def update(loss: torch.Tensor, name: str = "main") -> None:
        optimiser = recipe.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.options.clip_norm:
            parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, recipe.options.clip_norm)
        optimiser.step()

    best: Mapping[str, torch.Tensor] = {}
    for module in recipe.modules.values():
        module.train()
    for epoch in range(recipe.options.epochs):
        order = np.random.default_rng(epoch).permutation(len(train))
        for start in range(0, len(order), size):
            recipe.step(train.take(order[start : start + size]), moment, update)  # type: ignore[arg-type]
            moment.step += 1
        if validation is None or recipe.evaluate is None or recipe.measure is None:
            continue
        for module in recipe.modules.values():
            module.eval()
        outputs: dict[str, list[np.ndarray]] = {}
        with torch.no_grad():
            for start in range(0, len(validation), size):
                batch = validation.take(np.arange(start, min(start + size, len(validation))))
                for name, tensor in recipe.evaluate(batch).items():
                    outputs.setdefault(name, []).append(tensor.float().numpy())
        recipe.measure({name: np.concatenate(parts) for name, parts in outputs.items()})
        best = {name: tensor.clone() for name, tensor in module_tensors(recipe.modules).items()}
        for module in recipe.modules.values():
            module.train()
    del best


def fits(folder: Path) -> None:
    """Wall time of whole fits, from the catalog to the saved model, against plain loops."""
    rows = []
    for number, case in enumerate(CASES):
        method = method_of(case.system)
        config = overridden(method.config(), case.settings)
        catalog = Catalog(folder / f"lake{number}")
        dataset = catalog.create("data", modality=method.modality(config), attributes={})
        dataset.append(samples(method, config, case.seeds), evolve=True)
        before = _plain(catalog, method, config)
        started = time.perf_counter()
        report = fit(catalog, FitRequest(case.system, "data", config), Settings())
        ours = time.perf_counter() - started
        plain = (before + _plain(catalog, method, config)) / 2
        title = f"{case.system} {' '.join(case.settings[:1]) if case.settings[0].startswith('network') else ''}".strip()
        rows.append(
            [
                title,
                f"{report.outcome.steps}",
                f"{ours:.1f}",
                f"{plain:.1f}",
                f"{ours / plain:.2f}",
                f"{report.outcome.first_step_s:.2f}",
                f"{report.outcome.examples_per_s:.0f}",
            ]
        )
    sys.stdout.write("\nfits: from the catalog to the saved model, against a plain loop with everything in memory\n")
    print_rows(["system", "steps", "fit, s", "plain, s", "fit / plain", "first step after, s", "examples/s"], rows)


def _plain(catalog: Catalog, method: Method, config: Any) -> float:
    dataset = catalog["data"]
    wanted = [*method.fields(config), method.target(config)]
    names = [name for name in dict.fromkeys(wanted) if name in dataset.fields]
    scalars = [
        name for name in (config.split.group, config.split.stratify, method.target(config)) if name and name != "id"
    ]
    frame = dataset.select(fields=list(dict.fromkeys(scalars))).frame()
    if method.eligible is not None:
        frame = frame.filter(method.eligible(config).fill_null(value=True))
    split = k_folds(split_frame(frame, config.split), config.split)[0]
    parts = [
        dataset.select(pl.col("id").is_in(list(ids)), fields=names)
        for ids in (split.train, split.validation, split.test)
    ]
    torch.manual_seed(0)
    preprocessing = method.preprocess(parts[0], config)
    space = Workspace(config, preprocessing, method.build(config, preprocessing), parts[0], parts[1], alone())
    return plain_fit(method, config, space, samples_of(parts[2].read(), dataset.declaration.attributes))


def live(folder: Path) -> None:
    """Readings of a sensor one by one through each network, one thread, against the whole window each time."""
    from sensorium.jobs.training.method import ready
    from sensorium.jobs.water_pollutants import simulator
    from sensorium.jobs.water_pollutants.live import LiveClassifier
    from sensorium.jobs.water_pollutants.network import NETWORKS

    method = method_of("water_pollutants")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    readings = simulator.measurement("ammonia", 0).T
    rows = []
    for network in reversed(NETWORKS):
        config = overridden(method.config(), [f"network={network}"])
        found = {"classes": [*simulator.POLLUTANTS], "mean": [0.0] * 10, "deviation": [1.0] * 10, "width": config.width}
        fitted = ready(config, found, method.build(config, found), torch.device("cpu"))
        stream, spent = LiveClassifier(fitted), []
        for reading in readings:
            started = time.perf_counter()
            stream.push(reading)
            spent.append(time.perf_counter() - started)
        windows = torch.randn(300, 1, config.width, 10)
        started = time.perf_counter()
        with torch.inference_mode():
            for window in windows:
                fitted.modules["network"](window).softmax(dim=1)
        whole = (time.perf_counter() - started) / len(windows) * 1e3
        later = np.array(spent[config.skip + 2 * config.width :]) * 1e3
        median, slow = np.percentile(later, [50, 99])
        rows.append([NETWORKS[network], f"{median:.3f}", f"{slow:.3f}", f"{whole:.3f}", f"{whole / median:.2f}"])
    torch.set_num_threads(threads)
    sys.stdout.write("\nlive: milliseconds a reading on one thread, against the network on the whole window\n")
    print_rows(["network", "median", "99 % below", "whole window", "times faster"], rows)
