"""Reading a line of capitals and digits with Tesseract: in the process where tesserocr is installed, else by its program."""

from __future__ import annotations

import functools
import importlib
import io
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sensorium.jobs.subprocesses import run
from sensorium.platform.errors import MissingDependency, ProgramFailed

__all__ = ["LETTERS", "Reader", "open_tesseract"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_LANGUAGE = "eng"
_WHITELIST = "tessedit_char_whitelist"
#: page segmentation mode 7: the picture is a single line of text
_LINE = 7
#: what the program puts between the texts of two pictures
_NEXT = "\f"
#: where packages put the data, by usual layouts of Linux, Homebrew and Conda
_PLACES = ("share/tessdata", "share/tesseract-ocr/*/tessdata", "share/tesseract/tessdata")
_ROOTS = ("/usr", "/usr/local", "/opt/homebrew")


@dataclass(frozen=True)
class Reader:
    """Something that reads text.

    Attributes:
        definition: program, version and settings.
        read: pictures [H, W], grey, uint8, of a line each, to their texts.
    """

    definition: str
    read: Callable[[Sequence[np.ndarray]], list[str]]


def open_tesseract() -> Reader:
    """Tesseract, however it is there.

    Raises:
        MissingDependency: it is not, or without its data for English.
    """
    module, data = _tesserocr(), _data()
    if module is not None and data is not None:
        version = module.tesseract_version().split()[1]
        return Reader(_definition(version, data), functools.partial(_read_within, _Loaded(module, data)))
    program = shutil.which("tesseract")
    if program is None:
        raise MissingDependency(
            "Tesseract is needed to read plates, and is not installed. Install it with: apt-get install tesseract-ocr (or "
            "brew install tesseract); pip install tesserocr makes it faster."
        )
    version = run([program, "--version"]).decode(errors="replace").split()[1]
    languages = run([program, "--list-langs"]).decode(errors="replace").split("\n")[1:]
    if _LANGUAGE not in (name.strip() for name in languages):
        raise MissingDependency(
            f"{program} lacks its data for English. Install it with: apt-get install tesseract-ocr-eng"
        )
    return Reader(_definition(version, data), functools.partial(_read_beside, program))


def _definition(version: str, data: Path | None) -> str:
    # the data come in three kinds of very different size, and nothing inside says which
    size = (data / f"{_LANGUAGE}.traineddata").stat().st_size if data else 0
    return f"tesseract {version}, {_LANGUAGE} {size}, psm {_LINE}, {LETTERS}"


def _tesserocr() -> ModuleType | None:
    try:
        return importlib.import_module("tesserocr")
    except ImportError:
        return None


def _data() -> Path | None:
    """The folder of Tesseract's data, where it is in a usual place or ``TESSDATA_PREFIX`` names it."""
    named = os.environ.get("TESSDATA_PREFIX")
    roots = [Path(root) for root in (os.environ.get("CONDA_PREFIX"), *_ROOTS) if root]
    folders = [Path(named)] if named else [found for root in roots for place in _PLACES for found in root.glob(place)]
    return next((folder for folder in folders if (folder / f"{_LANGUAGE}.traineddata").is_file()), None)


class _Loaded(threading.local):
    """Tesseract once for each thread: it is not safe to share."""

    def __init__(self, module: Any, data: Path) -> None:
        self.api = module.PyTessBaseAPI(path=str(data), lang=_LANGUAGE, psm=_LINE)
        self.api.SetVariable(_WHITELIST, LETTERS)


def _read_within(loaded: _Loaded, pictures: Sequence[np.ndarray]) -> list[str]:
    texts = []
    for picture in pictures:
        height, width = picture.shape
        loaded.api.SetImageBytes(np.ascontiguousarray(picture).tobytes(), width, height, 1, width)
        # what it has learnt from one plate must not help, or hinder, with the next
        loaded.api.ClearAdaptiveClassifier()
        texts.append(loaded.api.GetUTF8Text().strip())
    return texts


def _read_beside(program: str, pictures: Sequence[np.ndarray]) -> list[str]:
    """The texts, in one run of the program: the pictures go in as the pages of a TIFF file."""
    from PIL import Image

    if not pictures:
        return []
    pages = [Image.fromarray(picture) for picture in pictures]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    # several threads for one line of text cost more than they gain
    limited = ["env", "OMP_THREAD_LIMIT=1", program, "stdin", "stdout", "-l", _LANGUAGE, "--psm", str(_LINE)]
    said = run([*limited, "-c", f"{_WHITELIST}={LETTERS}", "-c", f"page_separator={_NEXT}"], buffer.getvalue())
    texts = said.decode(errors="replace").split(_NEXT)
    if len(texts) == len(pages) + 1 and not texts[-1].strip():
        texts.pop()
    if len(texts) != len(pages):
        raise ProgramFailed(f"tesseract gave {len(texts)} texts for {len(pages)} plates.")
    return [text.strip() for text in texts]
