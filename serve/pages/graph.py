"""The lineage of a data set as a drawing of our own, from left to right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import polars as pl

from sensorium.catalog.models import PREFIX
from sensorium.serve.pages import markup

__all__ = ["Place", "layers", "layout", "svg"]

#: pixels of a box, and of the room between columns and rows
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 190, 46, 90, 22, 12
#: characters of a name that fit into a box
_NAME = 24
#: boxes that are drawn at most; the rest is in the table
_MOST = 80

Edge = tuple[str, str]


@dataclass(frozen=True)
class Place:
    """Where a box stands: column from the left, row from the top, both from 0."""

    column: int
    row: int

    @property
    def x(self) -> int:
        """Left, pixels."""
        return _MARGIN + self.column * (_WIDTH + _GAP_X)

    @property
    def y(self) -> int:
        """Top, pixels."""
        return _MARGIN + self.row * (_HEIGHT + _GAP_Y)


def layers(nodes: Iterable[str], edges: Iterable[Edge]) -> dict[str, int]:
    """A column for each node, every source left of what was made of it; edges that close a circle do not count."""
    makers: dict[str, list[str]] = defaultdict(list)
    for source, made in edges:
        if source != made:
            makers[made].append(source)
    found: dict[str, int] = {}

    def column(node: str, above: frozenset[str]) -> int:
        if node not in found:
            sources = [source for source in makers[node] if source not in above and source != node]
            found[node] = 1 + max((column(source, above | {node}) for source in sources), default=-1)
        return found[node]

    for node in sorted(nodes):
        column(node, frozenset())
    return found


def layout(nodes: Iterable[str], edges: Sequence[Edge]) -> dict[str, Place]:
    """Places of the nodes; within a column they stand in the order of what they are connected with, to save crossings."""
    columns = layers(nodes, edges)
    order: dict[int, list[str]] = defaultdict(list)
    for node, column in sorted(columns.items()):
        order[column].append(node)
    connected: dict[str, list[str]] = defaultdict(list)
    for source, made in edges:
        connected[made].append(source)
        connected[source].append(made)
    for _ in range(4):
        rows = {node: row for names in order.values() for row, node in enumerate(names)}
        for names in order.values():
            names.sort(key=lambda node: (_mean([rows[other] for other in connected[node]], rows[node]), node))
    return {node: Place(column, row) for column, names in order.items() for row, node in enumerate(names)}


def svg(name: str, lineage: pl.DataFrame) -> str:
    """The rows of ``Catalog.lineage(name)`` as a picture with links; words where there are none."""
    if lineage.is_empty():
        return markup.notice(f"{name} was made from nothing else in this lake, and nothing was made of it.")
    told: dict[Edge, list[str]] = {}
    for row in lineage.unique(maintain_order=True).iter_rows(named=True):
        words = f"{row['operation']}: {row['made_from']}@{row['from_version']} → {row['dataset']}@{row['version']}"
        told.setdefault((row["made_from"], row["dataset"]), []).append(words)
    nodes = dict.fromkeys([name, *(node for edge in told for node in edge)])
    left_out = len(nodes) - _MOST
    kept = set(list(nodes)[:_MOST])
    edges = {edge: words for edge, words in told.items() if set(edge) <= kept}
    places = layout(kept, list(edges))
    width = max(place.x for place in places.values()) + _WIDTH + _MARGIN
    height = max(place.y for place in places.values()) + _HEIGHT + _MARGIN
    arrows = "".join(_arrow(places, edge, words) for edge, words in edges.items())
    boxes = "".join(_box(node, place, node == name) for node, place in places.items())
    title = f"Lineage of {name}: {len(nodes)} data sets and models, {len(told)} derivations"
    note = f"<p class='quiet'>{left_out} more are not drawn; the table has them.</p>" if left_out > 0 else ""
    return (
        f'<div class="lineage" tabindex="0" role="group" aria-label="{escape(title)}">'
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 8 4 0 8"/></marker></defs>{arrows}{boxes}</svg></div>{note}'
    )


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _arrow(places: Mapping[str, Place], edge: Edge, words: Sequence[str]) -> str:
    start, end = (places[node] for node in edge)
    x1, y1 = start.x + _WIDTH, start.y + _HEIGHT / 2
    x2, y2 = end.x - 2, end.y + _HEIGHT / 2
    bend = max(30.0, abs(x2 - x1) / 2)
    shown = escape("\n".join(words[:12]) + (f"\n… and {len(words) - 12} more" if len(words) > 12 else ""))
    path = f"M{x1} {y1}C{x1 + bend:.0f} {y1} {x2 - bend:.0f} {y2} {x2} {y2}"
    return f'<path d="{path}" marker-end="url(#tip)"><title>{shown}</title></path>'


def _box(name: str, place: Place, here: bool) -> str:
    model = name.startswith(PREFIX)
    bare = name.removeprefix(PREFIX)
    shown = bare if len(bare) <= _NAME else bare[: _NAME - 1] + "…"
    kind = "model" if model else "data set"
    box = (
        f'<rect x="{place.x}" y="{place.y}" width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>'
        f'<text x="{place.x + 12}" y="{place.y + 20}">{escape(shown)}</text>'
        f'<text class="quiet" x="{place.x + 12}" y="{place.y + 36}">{kind}</text><title>{escape(name)}</title>'
    )
    group = f'<g class="node{" here" if here else ""}">{box}</g>'
    if model:
        return group
    return f'<a href="{escape(markup.address("dataset", name=name, tab="lineage"))}" aria-label="{escape(name)}">{group}</a>'
