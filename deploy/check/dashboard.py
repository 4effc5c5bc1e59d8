"""Checks that a dashboard is one that Grafana understands, by the classes of Grafana's own SDK.

usage: dashboard.py DASHBOARD DATASOURCES

Grafana ignores a key that it does not know. The SDK does so too, so what is read into its classes and
written again must still have every key. Panels must not overlap, and must ask the data source that is
provisioned; `queries.py` parses what they ask.
"""

import json
import sys
from pathlib import Path

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

import queries


def lost(before: object, after: object, place: str) -> list[str]:
    """Places in `before` that `after` lacks or has otherwise."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            problem
            for key, value in before.items()
            for problem in (
                lost(value, after[key], f"{place}.{key}") if key in after else [f"{place}.{key} is not known"]
            )
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            problem
            for at, (one, other) in enumerate(zip(before, after))
            for problem in lost(one, other, f"{place}[{at}]")
        ]
    return [] if before == after else [f"{place} is {before!r}, of which Grafana makes {after!r}"]


def overlaps(panels: list[dict]) -> list[str]:
    """Panels that share a place, and those that reach beyond the 24 columns."""
    taken, wrong = {}, []
    for panel in panels:
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            wrong.append(f"panel '{panel['title']}' reaches beyond column 24")
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), panel["title"])
                if other != panel["title"]:
                    wrong.append(f"panel '{panel['title']}' lies over '{other}'")
    return sorted(set(wrong))


def main() -> None:
    path, sources = Path(sys.argv[1]), Path(sys.argv[2])
    content = json.loads(path.read_text())
    register_default_plugins()
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(content)))
    wrong = lost(content, again, "dashboard") + overlaps(content["panels"])
    names = {source["uid"] for source in yaml.safe_load(sources.read_text())["datasources"]}
    for panel in content["panels"]:
        if panel["type"] != "row" and panel["datasource"]["uid"] not in names:
            wrong.append(f"panel '{panel['title']}' asks another data source than {', '.join(names)}")
    ids = [panel["id"] for panel in content["panels"]]
    if len(set(ids)) < len(ids):
        wrong.append("two panels have one id")
    if wrong:
        raise SystemExit("\n".join(f"{path}: {problem}" for problem in wrong))
    print(f"{len(ids)} panels, {len(queries.read(path))} queries")


main()
