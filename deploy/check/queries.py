"""The PromQL of dashboards (JSON) and of rule files (YAML), parsed."""

import json
import re
from pathlib import Path
from typing import Iterator, NamedTuple

import promql_parser
import yaml

# Grafana replaces its variables before Prometheus sees a query.
INTERVAL = re.compile(r"\$__(rate_interval|interval|range)\b")
VARIABLE = re.compile(r"\$\{?\w+\}?")
STAND_IN = "variable"
LABEL_VALUES = re.compile(r"label_values\((?P<query>.+),\s*(?P<label>\w+)\)")


class Query(NamedTuple):
    """A query, where it stands, and the labels that the text beside it prints."""

    place: str
    tree: promql_parser.Expr
    printed: set[str]


def read(path: Path) -> list[Query]:
    """All queries of a dashboard or of a rule file; SystemExit names the place of a syntax error."""
    content = path.read_text()
    if path.suffix == ".json":
        written = dashboard(json.loads(content))
    else:
        written = rules(yaml.safe_load(content))
    queries = []
    for place, text, printed in written:
        try:
            tree = promql_parser.parse(VARIABLE.sub(STAND_IN, INTERVAL.sub("5m", text)))
        except ValueError as error:
            raise SystemExit(f"{path}: {place}: {error}\n{text}") from None
        queries.append(Query(f"{path}: {place}", tree, printed))
    return queries


def dashboard(content: dict) -> Iterator[tuple[str, str, set[str]]]:
    """Queries of panels and of variables."""
    for panel in content["panels"]:
        for target in panel.get("targets", []):
            printed = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target.get("legendFormat", "")))
            yield f"panel '{panel['title']}'", target["expr"], printed
    for variable in content["templating"]["list"]:
        if found := LABEL_VALUES.fullmatch(variable["query"]):
            yield f"variable '{variable['name']}'", found["query"], {found["label"]}


def rules(content: dict) -> Iterator[tuple[str, str, set[str]]]:
    """Expressions of alerts and of recording rules."""
    for group in content["groups"]:
        for rule in group["rules"]:
            texts = " ".join(rule.get("annotations", {}).values())
            printed = set(re.findall(r"\$labels\.(\w+)", texts))
            yield f"rule '{rule.get('alert') or rule['record']}'", rule["expr"], printed


def nodes(tree: promql_parser.Expr) -> list[promql_parser.Expr]:
    """Every node of a query."""
    found = []
    promql_parser.walk(tree, found.append)
    return found
