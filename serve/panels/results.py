"""Answers for people: values, probabilities as bars, pictures, who answered; and as files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sensorium.jobs.training.method import Fitted, Method
from sensorium.jobs.training.operators import Configured
from sensorium.serve.api.encoding import json_bytes, npz_bytes, png_url
from sensorium.serve.pages import markup
from sensorium.serve.pages.files import fresh_folder
from sensorium.serve.pages.markup import Html
from sensorium.serve.panels import described

if TYPE_CHECKING:
    from sensorium.serve.gateway import Answer, ServedModel
    from sensorium.serve.panels.inputs import Given

__all__ = ["PAIR", "as_json", "as_npz", "failure", "pair", "probabilities", "shown"]

#: drawings of one place at two dates, which are shown one over the other
PAIR = ("before", "after")

#: classes that are drawn as bars
_CLASSES = 32
_LINE = "display:flex;align-items:center;gap:.5rem;min-width:9rem"
#: leaves room for the number behind it
_BAR = "flex:none;height:.8rem;border-radius:4px;background:var(--primary-500);min-width:2px;width:calc((100% - 4rem)"
_PICTURES = "display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));margin:1rem 0"
_PICTURE = "max-width:100%;height:auto;border-radius:8px;background:#fff"


def shown(answer: Answer, given: Given, served: ServedModel) -> str:
    """The answer as HTML."""
    return markup.page(
        "<h2>Result</h2>",
        _values(answer, served, given.truth),
        *_bars(answer, served),
        _pictures(answer),
        _others(answer),
        _provenance(answer, given, served),
    )


def failure(words: str) -> str:
    """Why there is no answer."""
    told = words[:1].upper() + words[1:]
    return markup.page("<h2>No result</h2>", f'<div role="alert">{markup.notice(told)}</div>')


def _values(answer: Answer, served: ServedModel, truth: Any) -> str:
    """What is no array, large, with its meaning; and what the lake says."""
    declared = {one.name: one for one in served.method.results(served.config)}
    items = []
    for name, value in _scalars(answer.result).items():
        one = declared.get(name)
        unit = f" {one.unit}" if one is not None and one.unit else ""
        meaning = f": {one.description}" if one is not None and one.description else ""
        items.append(
            f'<li data-field="{escape(name)}"><b>{escape(markup.text_of(value) + unit)}</b>'
            f"<span>{escape(name.replace('_', ' ') + meaning)}</span></li>"
        )
    known = {} if truth is None else {f"in the data ({served.target})": truth}
    return f'<ul class="tiles" role="status">{"".join(items)}</ul>{markup.facts(known) if known else ""}'


def _scalars(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in result.items()
        if not isinstance(value, np.ndarray)
    }


def probabilities(result: Mapping[str, Any]) -> dict[str, npt.NDArray[np.float64]]:
    """Arrays [..., K] of a result that hold a probability for each of K classes, as means [K] over all else."""
    found = {}
    for name, value in result.items():
        if not (isinstance(value, np.ndarray) and value.ndim and value.size and value.dtype.kind == "f"):
            continue
        rows = value.reshape(-1, value.shape[-1]).astype(np.float64)
        if 2 <= rows.shape[1] <= _CLASSES and (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3):
            found[name] = rows.mean(axis=0)
    return found


def _bars(answer: Answer, served: ServedModel) -> list[str]:
    drawn = []
    for name, means in probabilities(answer.result).items():
        rows = answer.result[name].size // len(means)
        caption = name.replace("_", " ") + (f", mean of {rows}" if rows > 1 else "")
        drawn.append(_bar_table(caption, _bar_lines(_names(served), means.tolist())))
    return drawn


def _names(served: ServedModel) -> list[str]:
    """Of the classes, where the method knows them without its networks."""
    if isinstance(served.model, Configured) or not isinstance(served.method, Method) or served.method.confusion is None:
        return []
    return served.method.confusion(Fitted(served.config, served.model.preprocessing, {}, torch.device("cpu")))


def _bar_lines(names: Sequence[str], means: Sequence[float]) -> list[tuple[str, float]]:
    """Names and probabilities, the highest first; in their own order where classes have no names."""
    if len(names) != len(means):
        return [(f"class {number}", mean) for number, mean in enumerate(means)]
    return sorted(zip(names, means, strict=True), key=lambda pair: -pair[1])


def _bar_table(caption: str, lines: Sequence[tuple[str, float]]) -> str:
    rows = [
        [name, Html(f'<div style="{_LINE}"><div style="{_BAR} * {mean:.4f})"></div>{100 * mean:.1f}&nbsp;%</div>')]
        for name, mean in lines
    ]
    body = markup.table(["Class", "Probability"], rows, caption=caption, shown=True)
    return body.replace('<th scope="col">Probability</th>', '<th scope="col" style="width:75%">Probability</th>')


def pair(answer: Answer) -> tuple[Image.Image, Image.Image] | None:
    """The drawings before and after, where the system makes both."""
    if not set(PAIR) <= set(answer.pictures):
        return None
    before, after = (Image.open(io.BytesIO(answer.pictures[name])).convert("RGB") for name in PAIR)
    return before, after


def _pictures(answer: Answer) -> str:
    apart = PAIR if set(PAIR) <= set(answer.pictures) else ()
    pictures = {name: content for name, content in answer.pictures.items() if name not in apart}
    if not pictures:
        return ""
    said = ", ".join(f"{name} {markup.text_of(value)}" for name, value in _scalars(answer.result).items())
    figures = []
    for name, content in pictures.items():
        title = name.replace("_", " ")
        words = escape(f"Drawing of the prediction, {title}: {said}", quote=True)
        figures.append(
            f'<figure style="margin:0"><img style="{_PICTURE}" src="{png_url(content)}" alt="{words}">'
            f'<figcaption class="quiet">{escape(title)}</figcaption></figure>'
        )
    return f'<div style="{_PICTURES}">{"".join(figures)}</div>'


def _others(answer: Answer) -> str:
    """Arrays that nothing above shows, by shape and range."""
    known = probabilities(answer.result)
    arrays = {
        name: value for name, value in answer.result.items() if isinstance(value, np.ndarray) and name not in known
    }
    if not arrays:
        return ""
    rows = [
        [name, value.dtype.name, " × ".join(map(str, value.shape)), *_range(value)] for name, value in arrays.items()
    ]
    columns = ["Array", "Type", "Shape", "Least", "Greatest"]
    return markup.table(columns, rows, caption="Further arrays, in full in the files below", shown=True)


def _range(value: npt.NDArray[Any]) -> list[float | None]:
    if not value.size or value.dtype.kind not in "biuf":
        return [None, None]
    return [float(np.nanmin(value)), float(np.nanmax(value))]


def _provenance(answer: Answer, given: Given, served: ServedModel) -> str:
    data = described.sources(served.sources)
    parts = [f"Answered by <b>{escape(answer.model)}</b> ({escape(answer.system)})"]
    parts += [f"fitted on {data}"] if data else []
    parts += [f"run {escape(answer.run)}"] if answer.run else []
    return f'<p class="quiet">{", ".join(parts)}. Asked about {given.origin}; it took {answer.seconds:.2f} s.</p>'


# -- files -------------------------------------------------------------------------------------------------------------


def as_npz(answer: Answer) -> Path:
    """The result's fields as ``result.npz``, and which model gave them."""
    path = fresh_folder() / "result.npz"
    path.write_bytes(npz_bytes({**answer.result, "answered_by": answer.model}))
    return path


def as_json(answer: Answer) -> Path:
    """The result as ``result.json``, with model, data and run."""
    path = fresh_folder() / "result.json"
    said = {"model": answer.model, "system": answer.system, "data": list(answer.data), "run": answer.run}
    path.write_bytes(json_bytes({**said, "result": answer.result}))
    return path
