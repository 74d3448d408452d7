"""The catalog: all data sets, and one of them with its samples, fields, history and lineage."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr
import polars as pl

from sensorium.catalog.fields import ArrayField
from sensorium.platform.tables import human_bytes
from sensorium.serve.pages import graph, grid, home, markup
from sensorium.serve.pages.listing import Listing, View
from sensorium.serve.pages.spoken import sentence, spoken

__all__ = ["about", "build", "build_dataset", "heading"]

#: versions, runs and changes that a table shows
_ROWS = 200
_TABS = ("samples", "about", "history", "lineage")


def build(listing: Listing) -> None:
    """The page of all data sets."""
    shown = gr.HTML(markup.page("<h1>Catalog</h1>"), padding=False)

    def opened() -> str:
        try:
            frame = listing.datasets()
        except Exception as error:  # noqa: BLE001 - told on the page
            return markup.page("<h1>Catalog</h1>", markup.notice(sentence(error)))
        body = home.datasets_table(frame) if frame.height else home.empty_lake()
        words = (
            "<p>Each data set keeps all its versions, and knows what it was made from. Choose one to look into it.</p>"
        )
        return markup.page("<h1>Catalog</h1>", words, body)

    gr.on(None, opened, None, shown, show_progress="hidden", api_visibility="private")


def build_dataset(listing: Listing) -> None:
    """The page of one data set; which, its address says: ``?name=…&version=…&where=…&page=…&tab=…``."""
    head = gr.HTML(markup.page("<h1>Data set</h1>"), padding=False)
    view = gr.State(None)
    with gr.Column(visible=False) as body:
        version = gr.Dropdown([], label="Version", filterable=False, scale=0, min_width=220, elem_id="version")
        with gr.Tabs() as tabs:
            with gr.Tab("Samples", id="samples"):
                samples = grid.Grid.build(listing, view)
            with gr.Tab("About", id="about"):
                described = gr.HTML(padding=False)
            with gr.Tab("History", id="history") as history_tab:
                history = _History.build(listing, view)
            with gr.Tab("Lineage", id="lineage") as lineage_tab:
                drawn = gr.HTML(padding=False)
                derivations = gr.Dataframe(label="Derivations", interactive=False, wrap=False, max_height=320)

    def opened(request: gr.Request) -> list[Any]:
        asked = request.query_params
        try:
            found = listing.view(
                asked.get("name", ""), asked.get("version", ""), asked.get("where", ""), _number(asked)
            )
            shown = [heading(listing, found), _versions(listing, found), about(listing, found)]
        except Exception as error:  # noqa: BLE001 - told on the page
            told = markup.page(
                "<h1>Data set</h1>", markup.notice(sentence(error)), markup.link("All data sets", "catalog")
            )
            return [told, gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip()]
        tab = asked.get("tab", "")
        return [*shown, found, gr.Column(visible=True), gr.Tabs(selected=tab if tab in _TABS else "samples")]

    @spoken
    def chosen(found: View, label: str) -> str:
        newest = label == _newest_label(listing, found)
        wanted = listing.catalog[found.name].version if newest else int(label.partition(" ")[0])
        if wanted == found.version:  # whoever tabs through the page leaves the list as it was
            return ""
        return markup.address("dataset", name=found.name, version=None if newest else wanted, where=found.where)

    def lineage(found: View | None) -> tuple[str, pl.DataFrame | None]:
        if found is None:
            return "", None
        frame = listing.catalog.lineage(found.name)
        return markup.page(graph.svg(found.name, frame)), frame.head(_ROWS)

    place = gr.Textbox(visible=False)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    outputs = [head, version, described, view, body, tabs]
    gr.on(None, opened, None, outputs, **quiet).then(samples.show, view, samples.outputs, **quiet)
    version.input(chosen, [view, version], place, **quiet).success(None, place, js=grid.GO)
    history_tab.select(history.show, view, history.outputs, **quiet)
    lineage_tab.select(spoken(lineage), view, [drawn, derivations], **quiet)
    for name, tab in zip(_TABS, tabs.children, strict=True):
        tab.select(None, js=f"() => {{ {_keep_tab(name)} }}")


def heading(listing: Listing, view: View) -> str:
    """Name, description and figures of a data set."""
    dataset = listing.dataset(view)
    declaration = dataset.declaration
    samples, size = listing.kept(("size", view.name, view.version), lambda: _size(dataset))
    named = sorted(tag for tag, number in dataset.tags().items() if number == view.version)
    figures = {
        "samples": markup.text_of(samples),
        "of payload": human_bytes(size),
        "version": markup.text_of(view.version),
        "modality": declaration.modality_name,
    }
    words = f"<p>{escape(declaration.description)}</p>" if declaration.description else ""
    sweep = view.name in listing.sweeps()
    also = f"<p>{markup.link('Explore this sweep', 'sweeps', sweep=view.name)}</p>" if sweep else ""
    return markup.page(
        f"<nav aria-label='You are here'>{markup.link('Catalog', 'catalog')} › {escape(view.name)}</nav>",
        f"<h1>{escape(view.name)}</h1>",
        words,
        markup.tiles(figures),
        markup.facts({"licence": declaration.licence or "none given", "tags": markup.tags(named) if named else None}),
        also,
    )


def about(listing: Listing, view: View) -> str:
    """Fields and attributes of a data set."""
    declaration = listing.dataset(view).declaration
    rows = []
    for field in declaration.fields.values():
        array = isinstance(field, ArrayField)
        kind = f"array [{field.dims}]" if isinstance(field, ArrayField) else str(field.type)
        span = (
            f"{field.minimum:g} to {field.maximum:g}" if field.minimum is not None and field.maximum is not None else ""
        )
        rows.append([field.name, kind, field.unit, span, "yes" if array or field.required else "", field.description])
    fields = markup.table(
        ["Field", "Kind", "Unit", "Range", "Required", "What it is"], rows, caption="Fields of a sample"
    )
    attributes = dict(declaration.attributes)
    values = markup.facts(attributes) if attributes else "<p class='quiet'>None.</p>"
    return markup.page("<h2>Fields</h2>", fields, "<h2>Values for the whole data set</h2>", values)


class _History:
    """The tab of versions, and what changed between two."""

    def __init__(self, listing: Listing, outputs: list[Any]) -> None:
        self._listing, self.outputs = listing, outputs

    @classmethod
    def build(cls, listing: Listing, view: gr.State) -> _History:
        """Make its components."""
        table = gr.Dataframe(label="Versions, the newest first", interactive=False, wrap=True, max_height=420)
        with gr.Row(equal_height=False):
            before = gr.Dropdown([], label="From version", filterable=False, min_width=140)
            after = gr.Dropdown([], label="To version", filterable=False, min_width=140)
            button = gr.Button("What changed?", min_width=140)
        told = gr.HTML(padding=False)
        changes = gr.Dataframe(label="Changed samples", interactive=False, visible=False, max_height=360)

        @spoken
        def compared(found: View, old: int, new: int) -> tuple[str, Any]:
            frame = listing.dataset(found).diff(int(old), int(new))
            counts = dict(frame.group_by("change").agg(pl.len()).iter_rows())
            words = ", ".join(f"{counts.get(kind, 0)} {kind}" for kind in ("added", "removed", "changed"))
            shown = _readable(frame.head(_ROWS))
            return markup.page(f"<p>From version {old} to {new}: {words}.</p>"), gr.Dataframe(
                shown, visible=frame.height > 0
            )

        button.click(
            compared, [view, before, after], [told, changes], show_progress="minimal", api_visibility="private"
        )
        return cls(listing, [table, before, after])

    def show(self, view: View | None) -> list[Any]:
        """Values of the outputs."""
        if view is None:
            return [None, gr.skip(), gr.skip()]
        frame = self._listing.catalog[view.name].history()
        versions = [int(number) for number in frame["version"]]
        older = versions[1] if len(versions) > 1 else versions[0]
        return [
            _readable(frame.head(_ROWS)),
            gr.Dropdown(versions, value=older),
            gr.Dropdown(versions, value=versions[0]),
        ]


def _readable(frame: pl.DataFrame) -> pl.DataFrame:
    """Lists and times as text."""
    return frame.with_columns(
        pl.col(name).list.join(", ") if kind == pl.List(pl.String) else pl.col(name).dt.strftime("%Y-%m-%d %H:%M:%S")
        for name, kind in frame.schema.items()
        if kind == pl.List(pl.String) or isinstance(kind, pl.Datetime)
    )


def _size(dataset: Any) -> tuple[int, int]:
    """Samples, and bytes of their payload."""
    parts = [pl.col(name).struct.field("nbytes").sum().alias(name) for name in dataset.declaration.arrays]
    if not parts:
        return len(dataset), 0
    return len(dataset), int(sum(dataset.scan().select(parts).collect().row(0)))


def _newest_label(listing: Listing, view: View) -> str:
    return f"newest ({listing.catalog[view.name].version})"


def _versions(listing: Listing, view: View) -> Any:
    frame = listing.catalog[view.name].history()
    labels = {
        int(number): f"{number} ({', '.join(named)})" if named else str(number)
        for number, named in frame.select("version", "tags").iter_rows()
    }
    newest = _newest_label(listing, view)
    current = newest if view.version == max(labels) else labels[view.version]
    return gr.Dropdown([newest, *list(labels.values())[1:]], value=current)


def _number(asked: Any) -> int:
    """The page of an address, which counts from 1, as :class:`View` counts."""
    text = asked.get("page", "1")
    return int(text) - 1 if text.isdecimal() else 0


def _keep_tab(name: str) -> str:
    """JavaScript that notes the tab in the address."""
    return (
        f"const u = new URL(window.location); u.searchParams.set('tab', '{name}');"
        " if (u.href !== window.location.href) history.replaceState(null, '', u);"
    )
