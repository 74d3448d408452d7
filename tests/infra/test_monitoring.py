"""Dashboard and rules ask for what the service counts, by the labels that it has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from sensorium.serve.measurements import Measurements

FOLDER = Path(__file__).resolve().parents[2] / "infra" / "monitoring"
DASHBOARD = json.loads((FOLDER / "grafana" / "dashboards" / "sensorium.json").read_text())
RULES = [rule for group in yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
#: Grafana puts these in before it asks
_VARIABLES = {"$__rate_interval": "5m", "$route": ".*"}


def counted() -> dict[str, set[str]]:
    """Series that the service gives, with their labels, after a request and a prediction."""
    measurements = Measurements()
    measurements.request("GET", "/v1/models", 200, 0.1)
    measurements.prediction("water@1", 4, failed=False)
    measurements.replicas.set(1)
    found: dict[str, set[str]] = {}
    for line in measurements.text().decode().splitlines():
        series = re.match(r"(\w+)(?:\{(.*)\})? ", line)
        if series and not line.startswith("#"):
            found.setdefault(series[1], set()).update(re.findall(r'(\w+)="', series[2] or ""))
    return found


def selectors(node: Any) -> Iterator[Any]:
    """Every selection of a series in an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
        return
    for name in ("expr", "lhs", "rhs", "vector_selector", "args", "param"):
        part = getattr(node, name, None)
        for one in part if isinstance(part, list) else [part]:
            if one is not None and type(one).__module__ == promql_parser.__name__:
                yield from selectors(one)


def expressions() -> list[str]:
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [*shown, *(rule["expr"] for rule in RULES)]


def asked(expression: str) -> list[Any]:
    for name, value in _VARIABLES.items():
        expression = expression.replace(name, value)
    return list(selectors(promql_parser.parse(expression)))


@pytest.mark.parametrize("expression", expressions())
def test_every_expression_asks_for_what_is_counted(expression: str) -> None:
    known = counted() | {rule["record"]: {"status", "route", "model", "outcome"} for rule in RULES if "record" in rule}
    known["up"] = {"job"}
    found = asked(expression)
    assert found
    for selector in found:
        assert selector.name in known
        labels = {matcher.name for matcher in selector.matchers.matchers}
        assert labels <= known[selector.name]


@pytest.mark.parametrize("expression", expressions())
def test_what_is_summed_by_is_a_label(expression: str) -> None:
    known = counted()
    labels = {"le"}.union(*(known.get(selector.name, set()) for selector in asked(expression)))
    named = {name.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for name in group.split(",")}
    assert named <= labels


def test_everything_that_is_counted_is_shown_or_watched() -> None:
    families = {re.sub("_(total|created|bucket|sum|count)$", "", name) for name in counted()}
    used = {re.sub("_(total|bucket|sum|count)$", "", one.name) for text in expressions() for one in asked(text)}
    assert families <= used


def test_alerts_say_what_to_do() -> None:
    alerts = [rule for rule in RULES if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts) > 4
    for rule in alerts:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "action"} <= set(rule["annotations"])
        promql_parser.parse_duration(rule["for"])


def test_panels_have_ids_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells


def test_the_data_source_of_the_dashboard_is_provided() -> None:
    sources = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {sources[0]["uid"]}


def test_the_scrape_asks_where_the_service_answers() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    compose = yaml.safe_load((FOLDER.parent / "compose" / "compose.yaml").read_text())
    (job,) = config["scrape_configs"]
    host, _, port = job["static_configs"][0]["targets"][0].partition(":")
    assert host in compose["services"]
    assert f"127.0.0.1:{port}:{port}" in compose["services"][host]["ports"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{compose['services']['prometheus']['secrets'][0]}"
    assert any(rule["expr"] == f'up{{job="{job["job_name"]}"}} == 0' for rule in RULES if "alert" in rule)
