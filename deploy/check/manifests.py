"""Checks that the Kubernetes manifests fit each other, which a schema cannot say.

usage: manifests.py FOLDER SCHEMA

The settings are those of the server (SCHEMA), selectors find the pods, names lead to what exists, probes ask the admin port of the settings, and a pod
that is told to stop has the time that its settings promise to requests in flight.
"""

import json
import sys
import tomllib
from pathlib import Path

import jsonschema
import yaml

FOLDER, SCHEMA = Path(sys.argv[1]), Path(sys.argv[2])
PROBES = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}

wrong = []


def check(holds: bool, problem: str) -> None:
    if not holds:
        wrong.append(problem)


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


documents = [yaml.safe_load(path.read_text()) for path in sorted(FOLDER.rglob("*.yaml"))]
by_kind = {document["kind"]: document for document in documents}
check(len(by_kind) == len(documents), "this check knows one manifest of a kind")

deployment = by_kind["Deployment"]
name = deployment["metadata"]["name"]
template = deployment["spec"]["template"]
pod = template["spec"]
[server] = pod["containers"]
labels = template["metadata"]["labels"]
settings = tomllib.loads(by_kind["ConfigMap"]["data"]["server.toml"])
for error in jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).iter_errors(settings):
    wrong.append(f"ConfigMap: {error.json_path[2:] or 'server.toml'}: {error.message}")
ports = {entry["name"]: entry["containerPort"] for entry in server["ports"]}

check(
    ports == {"grpc": port(settings["listen"]), "admin": port(settings["admin"])},
    f"Deployment: ports are {ports}, the settings listen at {settings['listen']} and {settings['admin']}",
)
for probe, path in PROBES.items():
    asked = server[probe]["httpGet"]
    check(
        (asked["port"], asked["path"]) == ("admin", path),
        f"Deployment: {probe} asks {asked}, not {path} of the admin port",
    )
pause = server["lifecycle"]["preStop"]["sleep"]["seconds"]
check(
    pause + settings["drain_seconds"] < pod["terminationGracePeriodSeconds"],
    f"Deployment: preStop takes {pause} s and drain_seconds is {settings['drain_seconds']}, which is not less"
    f" than terminationGracePeriodSeconds ({pod['terminationGracePeriodSeconds']})",
)
mounted = {mount["name"]: mount["mountPath"] for mount in server["volumeMounts"]}
volumes = {volume["name"]: volume for volume in pod["volumes"]}
check(mounted.keys() == volumes.keys(), f"Deployment: mounts {set(mounted)} of the volumes {set(volumes)}")
check(mounted.get("models") == settings["models"], "Deployment: the models are not where the settings say")
for volume, kind, key, field in [
    ("config", "ConfigMap", "configMap", "name"),
    ("models", "PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
]:
    check(
        volumes[volume][key][field] == by_kind[kind]["metadata"]["name"],
        f"Deployment: the volume {volume} names no {kind} of this folder",
    )

selectors = {
    "Deployment": deployment["spec"]["selector"]["matchLabels"],
    "Service": by_kind["Service"]["spec"]["selector"],
    "PodDisruptionBudget": by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    "NetworkPolicy": by_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
}
for kind, selector in selectors.items():
    check(selector.items() <= labels.items(), f"{kind}: {selector} selects no pod of the Deployment")
for entry in by_kind["Service"]["spec"]["ports"]:
    check(entry["targetPort"] in ports, f"Service: no port {entry['targetPort']} in the pod")
    check(entry["port"] == ports.get(entry["name"]), f"Service: port {entry['name']} is another than the pod's")
for rule in by_kind["NetworkPolicy"]["spec"]["ingress"]:
    for entry in rule["ports"]:
        check(entry["port"] in ports, f"NetworkPolicy: no port {entry['port']} in the pod")
target = by_kind["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
check(
    (target["kind"], target["name"]) == ("Deployment", name),
    f"HorizontalPodAutoscaler: scales {target['name']}, not {name}",
)
service = by_kind["Service"]
monitor = by_kind["ServiceMonitor"]["spec"]
check(
    monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items(),
    "ServiceMonitor: selects no Service of this folder",
)
for endpoint in monitor["endpoints"]:
    check(
        endpoint["port"] in {entry["name"] for entry in service["spec"]["ports"]},
        f"ServiceMonitor: the Service has no port {endpoint['port']}",
    )

if wrong:
    raise SystemExit("\n".join(wrong))
