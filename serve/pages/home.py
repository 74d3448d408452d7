"""The home page: what this is, what is in the lake, what is fitted, and how the service does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import gradio as gr
import polars as pl

from sensorium.platform.tables import human_bytes
from sensorium.serve.pages import markup
from sensorium.serve.pages.listing import Listing
from sensorium.serve.pages.markup import Html
from sensorium.serve.pages.spoken import sentence

__all__ = ["build", "datasets_table", "empty_lake", "health_facts", "home"]

#: models and metrics of a model that the page names
_MODELS, _METRICS = 12, 3


def build(listing: Listing) -> None:
    """The page; it is read anew whenever it is opened."""
    shown = gr.HTML(markup.page("<h1>Sensorium</h1>"), padding=False)

    def opened() -> str:
        return home(listing)

    gr.on(None, opened, None, shown, show_progress="hidden", api_visibility="private")


def home(listing: Listing) -> str:
    """The page as HTML; a part that cannot be read says why in its place."""
    parts = [
        "<h1>Sensorium</h1><p>One platform for every kind of sensor: data sets with versions and lineage, compression "
        "sweeps that measure what machines still see, and fitted models that answer here and over the API.</p>"
    ]
    for part in (_lake, _fitted, _systems, _health):
        try:
            parts.append(part(listing))
        except Exception as error:  # noqa: BLE001 - one broken part must not take the others with it
            parts.append(markup.notice(sentence(error)))
    return markup.page(*parts)


def datasets_table(frame: pl.DataFrame) -> str:
    """The data sets as a table with links."""
    rows = [
        [
            markup.link(row["name"], "dataset", name=row["name"]),
            row["modality"],
            row["samples"],
            Html(human_bytes(row["bytes"]).replace(" ", "&nbsp;") if row["bytes"] else "–"),
            row["version"],
            row["updated"],
            row["licence"],
            row["description"],
        ]
        for row in frame.iter_rows(named=True)
    ]
    columns = ["Data set", "Modality", "Samples", "Size", "Version", "Updated (UTC)", "Licence", "Description"]
    return markup.table(columns, rows, caption="Data sets of the lake")


def empty_lake() -> str:
    """What to do where there is no data yet."""
    return markup.notice(
        "The lake is empty. Fill it from a terminal: with example data, or with files of your own.",
        ["sensorium demo --no-serve", "sensorium catalog ingest FOLDER --dataset NAME"],
    )


def _lake(listing: Listing) -> str:
    frame = listing.datasets()
    models = listing.gateway.models()
    figures = {
        "data sets": markup.text_of(frame.height),
        "samples": markup.text_of(int(frame["samples"].sum())),
        "of payload": human_bytes(int(frame["bytes"].sum())),
        "fitted models": markup.text_of(models["name"].n_unique()),
        "systems": markup.text_of(len(listing.gateway.systems())),
    }
    body = datasets_table(frame) if frame.height else empty_lake()
    return f"{markup.tiles(figures)}<h2>In the lake</h2>{body}"


def _fitted(listing: Listing) -> str:
    models = listing.gateway.models()
    if models.is_empty():
        return "<h2>Fitted models</h2>" + markup.notice(
            "No model is fitted yet. Fit one from a terminal; systems that can be fitted are listed below.",
            ["sensorium fit SYSTEM --data NAME"],
        )
    rows = [
        [
            row["name"],
            row["version"],
            markup.tags(row["stages"] or ()),
            row["system"],
            row["created"],
            row["parameters"],
            _metrics(row["metrics"]),
        ]
        for row in models.head(_MODELS).iter_rows(named=True)
    ]
    more = (
        f'<p class="quiet">and {models.height - _MODELS} older versions: sensorium models list</p>'
        if models.height > _MODELS
        else ""
    )
    columns = ["Model", "Version", "Stages", "System", "Fitted (UTC)", "Parameters", "Measured"]
    return "<h2>Fitted models</h2>" + markup.table(columns, rows, caption="Fitted models, the newest first") + more


def _metrics(text: str) -> str:
    """The first numbers among a model's metrics (JSON), by name."""
    found: dict[str, float] = {}
    waiting: list[tuple[str, Any]] = list(json.loads(text or "{}").items())
    while waiting and len(found) < _METRICS:
        name, value = waiting.pop(0)
        if isinstance(value, Mapping):
            waiting += [(f"{name} {inner}", part) for inner, part in value.items()]
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = value
    return ", ".join(f"{name.replace('_', ' ')} {markup.text_of(value)}" for name, value in found.items())


def _systems(listing: Listing) -> str:
    fitted = dict(listing.gateway.models().group_by("system").agg(pl.col("name").n_unique()).iter_rows())
    rows = [
        [
            system.name,
            system.title,
            system.modality,
            system.claim,
            markup.tags(system.operations),
            fitted.get(system.name, 0),
        ]
        for system in listing.gateway.systems()
    ]
    columns = ["System", "Method", "Modality", "What its paper claims", "It can", "Models"]
    body = markup.table(columns, rows, caption="Installed systems: one published method each") if rows else ""
    return "<h2>Systems</h2>" + (body or markup.notice("No system is installed."))


def _health(listing: Listing) -> str:
    return "<h2>Health of the service</h2>" + markup.facts(health_facts(listing.gateway.health()))


def health_facts(health: Mapping[str, Any]) -> dict[str, Any]:
    """What ``Gateway.health`` says, with times as people read them."""
    shown: dict[str, Any] = {}
    for name, value in health.items():
        title = name.replace("_", " ")
        if name in ("started", "since") and isinstance(value, (int, float)):
            since = datetime.fromtimestamp(value, UTC)
            shown[title] = f"{since:%Y-%m-%d %H:%M} UTC"
        else:
            shown[title] = value
    return shown
