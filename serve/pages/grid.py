"""The samples of a data set: a query box, pictures of twelve at a time, their values, and downloads."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import polars as pl
from PIL import Image

from sensorium.serve.pages import drawing, examples, markup
from sensorium.serve.pages.files import fresh_folder, offer
from sensorium.serve.pages.listing import Listing, Page, View
from sensorium.serve.pages.spoken import spoken

if TYPE_CHECKING:
    from sensorium.catalog.declaration import Declaration
    from sensorium.catalog.sample import Sample

__all__ = ["GO", "PUSH", "Grid", "caption", "flat", "saved"]

#: JavaScript: go to an address; or note it, as a step that the back button takes back
GO = "(url) => { if (url) window.location.assign(new URL(url, document.baseURI)); }"
PUSH = (
    "(url) => { const next = new URL(url, document.baseURI);"
    " if (url && next.href !== window.location.href) history.pushState(null, '', next); }"
)
#: columns of a table, characters of an id and of a value in a caption
_COLUMNS, _ID, _VALUE = 24, 40, 24
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class Grid:
    """The components of the grid, and the function that fills them."""

    listing: Listing
    outputs: list[Any]

    @classmethod
    def build(cls, listing: Listing, view: gr.State) -> Grid:
        """Make the components; ``view`` holds the :class:`View` that is shown, or None."""
        with gr.Row(elem_classes="ask"):
            where = gr.Textbox(
                label="Only samples for which",
                placeholder="all samples; or a condition, as behind WHERE",
                scale=4,
                min_width=260,
                elem_id="where",
            )
            suggestions = gr.Dropdown([], label="Examples", value=None, scale=2, min_width=200, filterable=False)
            search = gr.Button("Search", variant="primary", scale=0, min_width=110)
        status = gr.HTML(padding=False, elem_id="found")
        gallery = gr.Gallery(
            label="Samples",
            show_label=False,
            columns=4,
            height="auto",
            object_fit="contain",
            allow_preview=False,
            buttons=[],
            format="png",
            elem_id="samples",
            elem_classes="gallery-sheet",
        )
        with gr.Row(elem_classes="pager"):
            back = gr.Button("← Previous page", size="sm", min_width=120)
            forward = gr.Button("Next page →", size="sm", min_width=120)
        rows = gr.Dataframe(label="Values of these samples", interactive=False, max_height=420, elem_id="rows")
        chosen = gr.HTML(padding=False, elem_id="chosen")
        with gr.Row(elem_classes="files"):
            offer("All values as CSV", spoken_save(listing, "csv"), [view], name="csv")
            offer("All values as Parquet", spoken_save(listing, "parquet"), [view], name="parquet")
        ids, place = gr.State(()), gr.Textbox(visible=False)
        grid = cls(listing, [where, suggestions, status, gallery, back, forward, rows, ids])
        _connect(grid, view, (where, suggestions, search, back, forward), place)
        _connect_samples([view, ids], (gallery, rows), chosen, place)
        return grid

    def show(self, view: View | None) -> list[Any]:
        """Values of the outputs."""
        if view is None:
            return [gr.skip()] * len(self.outputs)
        page = self.listing.page(view)
        number = min(view.number, page.pages - 1)
        samples = self.listing.samples(view, page.ids)
        frame = flat(self.listing.dataset(view).select(pl.col("id").is_in(page.ids)).frame())
        pictures = self._pictures(view, samples)
        return [
            view.where,
            gr.Dropdown(examples.predicates(self.listing, view), value=None),
            _status(view, page, number, len(self.listing.dataset(view))),
            gr.Gallery(pictures, visible=bool(pictures)),
            gr.Button(interactive=number > 0),
            gr.Button(interactive=number + 1 < page.pages),
            gr.Dataframe(frame.select(frame.columns[:_COLUMNS]), visible=bool(page.ids)),
            page.ids,
        ]

    def _pictures(self, view: View, samples: list[Sample]) -> list[tuple[Image.Image, str]]:
        modality = self.listing.dataset(view).modality
        if modality.preview is None:
            return []
        found: list[tuple[Image.Image, str]] = []
        for sample in samples:
            drawn = self.listing.picture(view, sample.id, lambda one=sample: drawing.preview(modality, one))  # type: ignore[misc]
            found.append((Image.open(io.BytesIO(drawn)), caption(sample, self.listing.dataset(view).declaration)))
        return found


def _connect(grid: Grid, view: gr.State, parts: tuple[Any, ...], place: gr.Textbox) -> None:
    where, suggestions, search, back, forward = parts

    @spoken
    def searched(found: View, condition: str) -> tuple[View, str]:
        wanted = replace(found, where=condition.strip(), number=0)
        grid.listing.page(wanted)  # a condition that cannot be used changes nothing
        return wanted, _address(wanted)

    @spoken
    def moved(found: View, step: int) -> tuple[View, str]:
        pages = grid.listing.page(found).pages
        wanted = replace(found, number=min(max(0, found.number + step), pages - 1))
        return wanted, _address(wanted)

    show = spoken(grid.show)
    for trigger in (search.click, where.submit):
        trigger(searched, [view, where], [view, place], **_QUIET).success(
            show, view, grid.outputs, show_progress="minimal", api_visibility="private"
        ).then(None, place, js=PUSH)
    suggestions.input(lambda text: text or gr.skip(), suggestions, where, **_QUIET)
    for button, step in ((back, -1), (forward, 1)):
        button.click(lambda found, by=step: moved(found, by), view, [view, place], **_QUIET).success(
            show, view, grid.outputs, show_progress="minimal", api_visibility="private"
        ).then(None, place, js=PUSH)


def _connect_samples(
    known: list[gr.State], parts: tuple[gr.Gallery, gr.Dataframe], chosen: gr.HTML, place: gr.Textbox
) -> None:
    """A picture opens its sample; a row offers a link to it, for whoever tabs through the page selects cells on the way."""
    gallery, rows = parts

    @spoken
    def opened(view: View, ids: tuple[str, ...], event: gr.SelectData) -> str:
        return _sample_address(view, ids[event.index])

    @spoken
    def offered(view: View, ids: tuple[str, ...], event: gr.SelectData) -> str:
        identifier = ids[event.index[0]]
        return markup.page(
            f'<p><a href="{escape(_sample_address(view, identifier))}">Open {escape(identifier)}</a></p>'
        )

    gallery.select(opened, known, place, **_QUIET).success(None, place, js=GO)
    rows.select(offered, known, chosen, **_QUIET)


def caption(sample: Sample, declaration: Declaration) -> str:
    """A sample's id, and its first two values that fit into a line."""
    values = []
    for name in declaration.scalars:
        value = sample[name] if name in sample and name not in declaration.attributes else None
        if isinstance(value, (str, int, float)) and len(str(value)) <= _VALUE:
            values.append(f"{name} {markup.text_of(value)}")
    name = sample.id if len(sample.id) <= _ID else "…" + sample.id[1 - _ID :]
    return " · ".join([name, *values[:2]])


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Every column as a number or text: nested values as JSON, times in ISO 8601."""
    parts = []
    for name, kind in frame.schema.items():
        if kind.is_nested():
            texts = [None if value is None else json.dumps(value, default=str) for value in frame[name].to_list()]
            parts.append(pl.Series(name, texts, dtype=pl.String))
        elif kind.is_temporal() or kind == pl.Binary:
            parts.append(frame[name].cast(pl.String, strict=False))
        else:
            parts.append(frame[name])
    return pl.DataFrame(parts)


def saved(frame: pl.DataFrame, kind: str) -> Path:
    """The rows as a file ``rows.csv`` or ``rows.parquet``."""
    target = fresh_folder() / f"rows.{kind}"
    if kind == "csv":
        flat(frame).write_csv(target)
    else:
        frame.write_parquet(target)
    return target


def spoken_save(listing: Listing, kind: str) -> Any:
    """A function that saves all rows of a view."""
    return lambda view: saved(listing.selection(view).frame(), kind)


def _sample_address(view: View, identifier: str) -> str:
    return markup.address("sample", name=view.name, version=view.version, id=identifier, where=view.where)


def _address(view: View) -> str:
    page = view.number + 1 if view.number else None
    return markup.address("dataset", name=view.name, version=view.version, where=view.where, page=page)


def _status(view: View, page: Page, number: int, whole: int) -> str:
    if not whole:
        text = "This data set has no samples yet."
    elif not page.total:
        text = "No sample is like that. Widen the condition, or choose an example."
    else:
        of = f" of the {markup.text_of(whole)} in the data set" if view.where else ""
        text = f"{markup.counted(page.total, 'sample')}{of}; page {number + 1} of {page.pages}"
    return markup.page(f'<p role="status">{escape(text)}</p>')
