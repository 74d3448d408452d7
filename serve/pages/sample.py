"""One sample: its viewer, its values, its neighbours, and its files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import polars as pl

from sensorium.catalog.export import export
from sensorium.serve.pages import markup, viewers
from sensorium.serve.pages.files import fresh_folder, offer
from sensorium.serve.pages.listing import Listing, View
from sensorium.serve.pages.spoken import sentence

if TYPE_CHECKING:
    from sensorium.catalog.declaration import Declaration
    from sensorium.catalog.sample import Sample

__all__ = ["build", "heading", "values"]

#: characters of a value
_LONGEST = 400


@dataclass(frozen=True)
class _Chosen:
    """A sample of a view."""

    view: View
    id: str


def build(listing: Listing) -> None:
    """The page; the sample stands in its address: ``?name=…&version=…&id=…&where=…``.

    The viewer is rendered when the sample is known: its components and their events differ from modality to modality,
    and each event then has the sample at hand.
    """
    head = gr.HTML(markup.page("<h1>Sample</h1>"), padding=False)
    chosen = gr.State(None)

    def opened(request: gr.Request) -> tuple[str, _Chosen | None]:
        asked = request.query_params
        try:
            view = listing.view(asked.get("name", ""), asked.get("version", ""), asked.get("where", ""))
            found = _Chosen(view, asked.get("id", ""))
            return heading(listing, view, found.id), found
        except Exception as error:  # noqa: BLE001 - told on the page
            told = markup.page(
                "<h1>Sample</h1>", markup.notice(sentence(error)), markup.link("All data sets", "catalog")
            )
            return told, None

    gr.on(None, opened, None, [head, chosen], show_progress="hidden", api_visibility="private")

    @gr.render(inputs=[chosen], triggers=[chosen.change], show_progress="minimal")  # type: ignore[untyped-decorator]
    def shown(found: _Chosen | None) -> None:
        if found is None:
            return
        try:
            sample = listing.sample(found.view, found.id)
            declaration = listing.dataset(found.view).declaration
            viewers.of(declaration.modality_name)(sample, declaration)
            gr.HTML(markup.page("<h2>Values</h2>", values(sample, declaration)), padding=False)
            _downloads(listing, found)
        except Exception as error:  # noqa: BLE001
            gr.HTML(markup.page(markup.notice(sentence(error))), padding=False)


def heading(listing: Listing, view: View, identifier: str) -> str:
    """Where the sample is, its id, and links to the samples beside it."""
    before, after = listing.neighbours(view, identifier)
    common = {"name": view.name, "version": view.version, "where": view.where}
    links = [
        markup.link(text, "sample", **common, id=other)
        for text, other in (("← Previous sample", before), ("Next sample →", after))
        if other is not None
    ]
    way = [markup.link("Catalog", "catalog"), markup.link(view.name, "dataset", **common), escape(identifier)]
    condition = f'<p class="quiet">Among the samples for which {escape(view.where)}</p>' if view.where else ""
    return markup.page(
        f"<nav aria-label='You are here'>{' › '.join(way)}</nav>",
        f"<h1>{escape(identifier)}</h1>",
        condition,
        f"<nav aria-label='Samples beside this one'>{' &nbsp; '.join(links)}</nav>",
    )


def values(sample: Sample, declaration: Declaration) -> str:
    """The scalars of a sample, and the shapes of its arrays."""
    shown: dict[str, Any] = {}
    for name in sample:
        if name in declaration.arrays:
            array = sample.view(name)
            shown[name] = f"{array.dtype.name} {' × '.join(map(str, array.shape))}"
        else:
            text = markup.text_of(sample[name])
            shown[name] = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return markup.facts(shown)


def _downloads(listing: Listing, found: _Chosen) -> None:
    with gr.Row(elem_classes="files"):
        offer("Arrays as NPZ", lambda: _packed(listing, found, "npz"), name="npz")
        if listing.dataset(found.view).modality.export is not None:
            offer("Usual files of its kind", lambda: _packed(listing, found, "native"), name="native")


def _packed(listing: Listing, found: _Chosen, kind: Any) -> Path:
    """The exported sample with its values, licence and description, as ``sample.zip``; its single NPZ as ``sample.npz``."""
    folder = fresh_folder()
    selection = listing.dataset(found.view).select(pl.col("id") == found.id)
    export(selection, folder / "sample", format=kind)
    arrays = list((folder / "sample").rglob("*.npz"))
    if kind == "npz" and len(arrays) == 1:
        return arrays[0].replace(folder / "sample.npz")
    return Path(shutil.make_archive(str(folder / "sample"), "zip", folder / "sample"))
