"""Checks the PromQL of dashboards.

usage: dashboards.py rules FILE…      print the expressions as recording rules, which promtool can parse
       dashboards.py query URL FILE…  evaluate the expressions on the Prometheus server at URL
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request


def expressions(value):
    if isinstance(value, dict):
        if "expr" in value:
            yield value["expr"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from expressions(item)


def expressions_of(paths):
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for expression in expressions(json.load(file)):
                yield expression.replace("$__rate_interval", "1m")


def rules(paths):
    import yaml

    found = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(expressions_of(paths))]
    yaml.safe_dump({"groups": [{"name": "panels", "rules": found}]}, sys.stdout)


def query(server, paths):
    empty = total = 0
    for text in expressions_of(paths):
        address = f"{server}/api/v1/query?{urllib.parse.urlencode({'query': text})}"
        try:
            with urllib.request.urlopen(address) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            sys.exit(f"{text}: {error.read().decode()}")
        total += 1
        empty += not answer["data"]["result"]
    print(f"{total} expressions, {empty} without series")
    # Dead letters, refusals, webhooks, drift and forwarding have no series before something happens.
    sys.exit(empty > total / 2)


def main():
    if sys.argv[1] == "rules":
        rules(sys.argv[2:])
    else:
        query(sys.argv[2], sys.argv[3:])


main()
