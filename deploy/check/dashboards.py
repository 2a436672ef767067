"""Writes the PromQL of dashboards as recording rules, so that promtool can parse it.

usage: dashboards.py FILE…
"""

import json
import sys

import yaml


def expressions(value):
    if isinstance(value, dict):
        if "expr" in value:
            yield value["expr"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from expressions(item)


def main():
    rules = []
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            for expression in expressions(json.load(file)):
                rule = {"record": f"panel:{len(rules)}", "expr": expression.replace("$__rate_interval", "1m")}
                rules.append(rule)
    yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}, sys.stdout)


main()
