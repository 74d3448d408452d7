"""Models and systems in words: what a version was fitted on and how good it is, and how its system works."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import polars as pl

from sensorium.catalog.models import PREFIX
from sensorium.jobs.training import configuration
from sensorium.jobs.training.method import check_data, method_of
from sensorium.jobs.training.operators import Configured, configured, is_operator
from sensorium.platform.errors import SensoriumError
from sensorium.serve.gateway import STAGE
from sensorium.serve.pages import markup
from sensorium.serve.pages.markup import Html

if TYPE_CHECKING:
    from sensorium.catalog.declaration import Source
    from sensorium.platform.systems import System
    from sensorium.serve.gateway import Gateway, ServedModel
    from sensorium.serve.pages.listing import Listing

__all__ = ["about", "choices", "heading", "how", "metric_rows", "nothing_fitted", "sources"]


def heading(system: System, title: str, hint: str = "") -> str:
    """What the system is; ``hint`` is HTML below."""
    return markup.page(f"<h1>{escape(title)}</h1>", f'<p class="quiet">{escape(system.title)}</p>', hint)


def choices(gateway: Gateway, system: System) -> list[tuple[str, str]]:
    """The fitted versions of a system as (label, ``NAME@VERSION``): production first, then the newest.

    An operator has none, and answers for itself.
    """
    if is_operator(system):
        return [("default settings", configured(system.name).reference)]
    frame = gateway.models().filter(pl.col("system") == system.name)
    rows = sorted(frame.iter_rows(named=True), key=lambda row: STAGE not in (row["stages"] or ()))
    return [(_label(row), f"{row['name']}@{row['version']}") for row in rows]


def _label(row: Mapping[str, Any]) -> str:
    stages = f", {', '.join(row['stages'])}" if row["stages"] else ""
    return f"{row['name']}@{row['version']}{stages}, fitted {row['created']:%Y-%m-%d}"


def nothing_fitted(listing: Listing, system: System) -> str:
    """What to type where no model of the system is there, with a data set of the lake that would do."""
    if "fit" not in system.operations:
        return markup.notice(f"There is no model of {system.name} in the lake, and it cannot be fitted here.")
    return markup.notice(
        f"No model of {system.name} is fitted yet. It needs: {system.needs}. Fit one from a terminal, then reload this page.",
        [f"sensorium fit {system.name} --data {_suitable(listing, system) or 'NAME'}"],
    )


def _suitable(listing: Listing, system: System) -> str | None:
    """A data set that the system can be fitted on as it is."""
    method = method_of(system.name)
    config = method.config()
    for name in listing.datasets()["name"].to_list():
        try:
            check_data(method, listing.catalog.dataset(name), config, labelled=True)
        except SensoriumError:
            continue
        return str(name)
    return None


def about(served: ServedModel, stages: tuple[str, ...]) -> str:
    """A version of a model: from what, when, how large, how good; of an operator, how it is set."""
    model = served.model
    if isinstance(model, Configured):
        settings = {path: str(value) for path, value in configuration.paths(model.config)}
        return markup.page("<h2>Settings</h2>", markup.facts(settings))
    facts = {
        "version": model.reference,
        "stages": markup.tags(stages) if stages else None,
        "what": model.description or None,
        "fitted (UTC)": model.created,
        "on": sources(model.sources),
        "run": model.run or None,
        "parameters": model.parameters or None,
    }
    return markup.page("<h2>About this model</h2>", markup.facts(facts), *_measured(model.metrics))


def _measured(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Figures of the test part, which have intervals, apart from what else was noted, such as the length of the fit."""
    rows = list(metric_rows(metrics))
    figures = [row for row in rows if row[2]]
    others = {title: value for title, value, span, _ in rows if not span}
    if figures:
        columns = ["Measure", "Value", "95 % interval", "Over"]
        yield markup.table(columns, figures, caption="On data that it was not fitted on", shown=True)
    else:
        yield markup.notice("Nothing was measured with intervals when it was fitted.")
    if others:
        yield f"<details><summary>Further numbers of the fit</summary>{markup.facts(others)}</details>"


def sources(found: tuple[Source, ...]) -> Html | None:
    """What a model was made from, data sets with links; None where nobody noted it."""
    shown = [
        escape(str(one)) if one.dataset.startswith(PREFIX) else _dataset(one.dataset, one.version) for one in found
    ]
    return Html(", ".join(shown)) if shown else None


def _dataset(name: str, version: int) -> Html:
    return markup.link(f"{name}@{version}", "dataset", name=name, version=version)


def metric_rows(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, str, Any]]:
    """The numbers among metrics: name, value, interval, and over how many units it was made; blank where there is none."""
    for name, value in metrics.items():
        title = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping) and "value" in value:
            between = [value.get("low"), value.get("high")]
            span = "" if None in between else " to ".join(markup.text_of(one) for one in between)
            yield title, value["value"], span, value.get("units")
        elif isinstance(value, Mapping):
            yield from metric_rows(value, f"{title}: ")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield title, value, "", None


def how(system: System) -> str:
    """How the system works, what it needs and claims, and whose method it is."""
    paper = f"paper {system.paper} of the project's eighteen: {system.title}" if system.paper else None
    return markup.page(
        "<h2>How this works</h2>",
        f"<p>{escape(system.explanation)}</p>" if system.explanation else "",
        markup.facts({"method": paper or system.title, "its paper says": system.claim, "needs": system.needs}),
    )
