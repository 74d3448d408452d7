"""As much of Kustomize as our manifests use: resources, namespace, images, JSON patches. What it does not know it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_KNOWN = {"apiVersion", "kind", "namespace", "resources", "images", "patches"}


def build(folder: Path) -> list[dict[str, Any]]:
    """The objects that ``kustomize build FOLDER`` would print.

    Raises:
        FileNotFoundError: a resource is not there.
        KeyError: a field of the file, or a place of a patch, that is not known.
    """
    wanted = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = set(wanted) - _KNOWN
    if unknown:
        raise KeyError(f"{folder}: {sorted(unknown)} is not understood here")
    objects: list[dict[str, Any]] = []
    for name in wanted["resources"]:
        place = folder / name
        if place.is_dir():
            objects += build(place)
        else:
            objects += [one for one in yaml.safe_load_all(place.read_text()) if one]
    for patch in wanted.get("patches", []):
        matching = [one for one in objects if one["kind"] == patch["target"]["kind"]]
        if not matching:
            raise KeyError(f"{folder}: a patch has no target")
        for one in matching:
            for operation in yaml.safe_load(patch["patch"]):
                _apply(one, operation)
    for image in wanted.get("images", []):
        for container in (part for one in objects for part in containers(one)):
            if container["image"].partition(":")[0] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
    for one in objects:
        if "namespace" in wanted:
            one["metadata"]["namespace"] = wanted["namespace"]
    return objects


def containers(node: Any) -> Iterator[dict[str, Any]]:
    """Every container in an object, however deep."""
    if isinstance(node, dict):
        yield from node.get("containers", [])
        for part in node.values():
            yield from containers(part)
    elif isinstance(node, list):
        for part in node:
            yield from containers(part)


def _apply(target: Any, operation: dict[str, Any]) -> None:
    """One ``add`` of RFC 6902."""
    if operation["op"] != "add":
        raise KeyError(f"operation {operation['op']} is not understood here")
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    for part in way:
        target = target[int(part)] if isinstance(target, list) else target[part]
    target[last] = operation["value"]
