"""The manifests: what Kustomize makes of them is what Kubernetes, KubeRay and Ray Serve take."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSetting
from tests.infra.kustomize import build, containers

INFRA = Path(__file__).resolve().parents[2] / "infra"
OVERLAYS = sorted((INFRA / "kubernetes" / "overlays").glob("*/*"))
SCHEMA = json.loads(Path(__file__).with_name("ray_resources.schema.json").read_text())
KUBERNETES = "1.34"


@pytest.fixture(params=OVERLAYS, ids=lambda place: f"{place.parent.name}-{place.name}")
def overlay(request: pytest.FixtureRequest) -> Path:
    place: Path = request.param
    return place


def of_ray(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = (one for one in objects if one["apiVersion"].startswith("ray.io/"))
    return found


def cluster_of(resource: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = resource["spec"]
    found: dict[str, Any] = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    return found


def pods(cluster: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": group["template"]["spec"]}


def test_there_are_overlays_for_both_kinds_of_machine() -> None:
    assert {place.parent.name for place in OVERLAYS} == {"cpu", "gpu"}
    assert len(OVERLAYS) == 6


def test_resources_fit_the_schema(overlay: Path) -> None:
    for one in build(overlay):
        if one["apiVersion"].startswith("ray.io/"):
            jsonschema.validate(one, SCHEMA, cls=jsonschema.Draft202012Validator)
        else:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_pods_fit_the_schema_of_kubernetes(overlay: Path) -> None:
    for pod in pods(cluster_of(of_ray(build(overlay)))):
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("headGroupSpec", "replicas"), 1),
        (("headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("enableInTreeAutoscaling",), "yes"),
        (("authOptions", "mode"), "on"),
        (("rayVersion",), "latest"),
    ],
)
def test_the_schema_refuses(place: tuple[str, ...], value: object) -> None:
    resource = of_ray(build(INFRA / "kubernetes" / "base" / "cluster"))
    spec = resource["spec"]
    for part in place[:-1]:
        spec = spec[part]
    spec[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(resource, SCHEMA, cls=jsonschema.Draft202012Validator)


def test_pods_are_not_root_and_have_limits(overlay: Path) -> None:
    found = build(overlay)
    for pod in pods(cluster_of(of_ray(found))):
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["serviceAccountName"] == "sensorium"
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["resources"]["requests"] == container["resources"]["limits"]
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in pod["spec"]["volumes"]}


def test_all_containers_take_the_image_of_the_overlay(overlay: Path) -> None:
    tag = {"cpu": "cpu", "gpu": "cuda"}[overlay.parent.name]
    images = {container["image"] for one in build(overlay) for container in containers(one)}
    assert images == {f"registry.example.org/sensorium:{tag}"}


def test_workers_of_the_gpu_overlay_have_a_card_each(overlay: Path) -> None:
    cluster = cluster_of(of_ray(build(overlay)))
    cards = [pod["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") for pod in pods(cluster)]
    assert cards == ([None, "1"] if overlay.parent.name == "gpu" else [None, None])


def test_the_version_of_ray_is_that_of_the_pins(overlay: Path) -> None:
    assert cluster_of(of_ray(build(overlay)))["rayVersion"] == version("ray")


def test_clusters_want_a_token(overlay: Path) -> None:
    assert cluster_of(of_ray(build(overlay)))["authOptions"] == {"mode": "token"}


def test_names_that_are_referred_to_are_there(overlay: Path) -> None:
    objects = build(overlay)
    there = {(one["kind"], one["metadata"]["name"]) for one in objects}
    assert ("ServiceAccount", "sensorium") in there
    for container in (part for one in objects for part in containers(one)):
        for source in container["envFrom"]:
            if "configMapRef" in source:
                assert ("ConfigMap", source["configMapRef"]["name"]) in there
            else:
                assert source["secretRef"]["optional"] is True


def test_the_service_leads_to_a_port_of_the_head() -> None:
    objects = build(INFRA / "kubernetes" / "base" / "service")
    (service,) = (one for one in objects if one["kind"] == "Service")
    head = cluster_of(of_ray(objects))["headGroupSpec"]["template"]
    labels = head["metadata"]["labels"]
    own = {name: value for name, value in service["spec"]["selector"].items() if not name.startswith("ray.io/")}
    assert own.items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in head["spec"]["containers"][0]["ports"]}
    config = yaml.safe_load(of_ray(objects)["spec"]["serveConfigV2"])
    assert ports[service["spec"]["ports"][0]["targetPort"]] == config["applications"][0]["args"]["port"]
    assert config["http_options"]["port"] not in ports.values()


def test_the_configuration_of_serve_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve.schema import ServeDeploySchema

    from sensorium.serve import deployed

    monkeypatch.setenv("SENSORIUM_TOKEN", "x" * 20)
    config = yaml.safe_load(of_ray(build(INFRA / "kubernetes" / "base" / "service"))["spec"]["serveConfigV2"])
    (application,) = ServeDeploySchema.model_validate(config).applications
    assert application.import_path == f"{deployed.__name__}:{deployed.build.__name__}"
    options = deployed.options_of(application.args)
    assert (options.host, options.replicas, options.guarded) == ("0.0.0.0", (1, 4), True)
    with pytest.raises(InvalidSetting, match="replicas"):
        deployed.options_of({"replica": [1, 4]})
    with pytest.raises(InvalidSetting, match="SENSORIUM_TOKEN"):
        deployed.options_of({"token": "x" * 20})


def test_the_command_of_the_job_is_one_that_we_have() -> None:
    import typer

    words = shlex.split(of_ray(build(INFRA / "kubernetes" / "base" / "job"))["spec"]["entrypoint"])
    assert words[:2] == ["sensorium", "--verbose"]
    group = typer.main.get_command(plugins.load("sensorium.commands", words[2], typer.Typer))
    command = group.get_command(group.make_context(words[2], ["--help"], resilient_parsing=True), words[3])  # type: ignore[attr-defined]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words[4:] if word.startswith("--")} <= options


def test_the_example_of_ray_up_fits_rays_schema() -> None:
    import ray

    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    config = yaml.safe_load((INFRA / "ray_up" / "aws.yaml").read_text())
    jsonschema.validate(config, schema)
    assert config["head_node_type"] in config["available_node_types"]
    config["workers"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, schema)
