"""Checks that dashboards and rules ask only for what a server exports.

usage: exported.py METRICS FILE...

METRICS is what /metrics of a running server answered. Every metric that a query names must have a
series in it, and every label that a query selects, groups or prints by must be one of that series. A
value that a query selects by must be named in the help of the metric.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

import promql_parser as promql

import queries

# What Prometheus itself adds to what it has collected.
ADDED = {"job", "instance"}

HELP = re.compile(r"# HELP (?P<name>\S+) (?P<help>.*)")
SERIES = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(\{(?P<labels>.*)\})? \S+")
LABEL = re.compile(r'(\w+)="(?:[^"\\]|\\.)*"')


def exported(text: str) -> dict[str, set[str]]:
    """The labels of every metric in a text in the format of OpenMetrics."""
    metrics = defaultdict(set, up=set(ADDED))
    for line in text.splitlines():
        if series := SERIES.match(line):
            metrics[series["name"]] |= {*LABEL.findall(series["labels"] or ""), *ADDED}
    return metrics


def helps(text: str) -> dict[str, set[str]]:
    """The words in the help of every metric, by the name that the suffixes of its series follow."""
    return {found["name"]: set(re.findall(r"\w+", found["help"])) for found in HELP.finditer(text)}


def unknown_values(selector: promql.VectorSelector, words: dict[str, set[str]]) -> list[str]:
    """Values that a selector asks for and the help of its metric does not name."""
    known = words.get(selector.name) or words.get(selector.name.rpartition("_")[0], set())
    return [
        f"{selector.name} has no {matcher.name} '{value}'"
        for matcher in selector.matchers.matchers
        if matcher.name not in ADDED and matcher.value != queries.STAND_IN
        for value in re.findall(r"\w+", matcher.value)
        if value not in known
    ]


def problems(query: queries.Query, metrics: dict[str, set[str]], words: dict[str, set[str]]) -> list[str]:
    """What a query asks for and the server does not export."""
    found = []
    known, grouped = set(), set(query.printed)
    for node in queries.nodes(query.tree):
        if isinstance(node, promql.VectorSelector):
            if node.name not in metrics:
                found.append(f"no server exports {node.name}")
                continue
            known |= metrics[node.name]
            labels = {matcher.name for matcher in node.matchers.matchers}
            found += [f"{node.name} has no label {label}" for label in labels - metrics[node.name]]
            found += unknown_values(node, words)
        elif isinstance(node, promql.AggregateExpr) and node.modifier:
            grouped |= set(node.modifier.labels)
        elif isinstance(node, promql.BinaryExpr) and node.modifier and node.modifier.matching:
            grouped |= set(node.modifier.matching.labels)
    if not found:
        found += [f"no metric of the query has a label {label}" for label in grouped - known]
    return [f"{query.place}: {problem}" for problem in found]


def main() -> None:
    text = Path(sys.argv[1]).read_text()
    metrics, words = exported(text), helps(text)
    asked = [query for path in sys.argv[2:] for query in queries.read(Path(path))]
    if not asked:
        raise SystemExit(f"no query in {', '.join(sys.argv[2:])}")
    found = [problem for query in asked for problem in problems(query, metrics, words)]
    if found:
        raise SystemExit("\n".join(found))
    print(f"{len(asked)} queries ask for what is exported")


main()
