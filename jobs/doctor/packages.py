"""Packages: those that are always needed, and those of each extra, by the project's own metadata."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sensorium.jobs.doctor.report import FAILED, MISSING, OK, Finding

__all__ = ["FEATURES", "package_findings"]

_PROJECT = "sensorium"
_LEAST_PYTHON = (3, 11)

#: extra -> what it is for
FEATURES = {
    "ray": "sweeps, predictions and ingest on all cores or a cluster",
    "torch": "networks and their weights",
    "fit": "fitting, evaluating and searching",
    "export": "models export (ONNX), tasks with networks of yours",
    "encoders": "building_change",
    "formats": "importing and exporting medical, remote-sensing and signal files",
    "codecs": "sweeps through codecs, video",
    "ocr": "reading plates faster",
    "serve": "serve, submit and jobs",
    "trees": "shape_tree and component_tree",
    "tracking": "Weights & Biases",
    "s3": "lakes on s3://",
    "gcs": "lakes on gs://",
    "demo": "the demo's photographs",
}
#: extras that only name others, or are for developers
_COLLECTIONS = ("all", "dev")


def package_findings() -> list[Finding]:
    """One finding for Python, one for what is always needed, one per extra."""
    found = [_python(), _described("always needed", [], "everything", lacking=FAILED)]
    found += [_described(extra, [extra], purpose, lacking=MISSING) for extra, purpose in FEATURES.items()]
    return found


def _python() -> Finding:
    told = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < _LEAST_PYTHON:
        return Finding("python", "version", FAILED, told, "Install Python 3.11 or newer.")
    return Finding("python", "version", OK, told)


def _described(subject: str, extras: list[str], purpose: str, *, lacking: str) -> Finding:
    wanted = list(_requirements(extras))
    absent = [f"{one.name}{one.specifier}" for one in wanted if _version(one) is None]
    wrong = [f"{one.name}{one.specifier} ({_version(one)} is installed)" for one in wanted if _unfit(one)]
    if not absent and not wrong:
        return Finding("packages", subject, OK, f"{len({one.name for one in wanted})} named packages")
    install = f"pip install '{_PROJECT}[{','.join(extras)}]'" if extras else f"pip install {_PROJECT}"
    told = "; ".join(
        [
            *([f"not installed: {', '.join(absent)}"] if absent else []),
            *([f"of another version: {', '.join(wrong)}"] if wrong else []),
        ]
    )
    return Finding("packages", subject, lacking, told, f"{install} – for {purpose}.")


def _requirements(extras: list[str]) -> Iterator[Requirement]:
    """What the project needs with these extras beyond what it needs anyway, or without any what it always needs."""
    for text in requires(_PROJECT) or []:
        one = Requirement(text)
        always = one.marker is None or one.marker.evaluate({"extra": ""})
        chosen = not always and any(one.marker and one.marker.evaluate({"extra": extra}) for extra in extras)
        if not (chosen if extras else always):
            continue
        if canonicalize_name(one.name) == _PROJECT:
            yield from _requirements(sorted(one.extras))
        else:
            yield one


def _version(one: Requirement) -> str | None:
    try:
        return version(one.name)
    except PackageNotFoundError:
        return None


def _unfit(one: Requirement) -> bool:
    installed = _version(one)
    return installed is not None and not one.specifier.contains(installed, prereleases=True)
