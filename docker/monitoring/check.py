#!/usr/bin/env python3
"""Asks a running Prometheus every question of the dashboard: check.py http://HOST:9090 NODES

Exits with 1 when a node is not scraped, when a rule cannot be evaluated, or when a query that has no reason to be empty is.
"""

import json
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

WITHIN_S = 90
# Only after a fault is there anything to show.
MAY_BE_EMPTY = ["chat_errors_sent_total{"]


def ask(base, path, **query):
    url = f"{base}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        body = json.load(answer)
    assert body["status"] == "success", body
    return body["data"]


def problems(base, nodes):
    targets = ask(base, "targets")["activeTargets"]
    up = [t for t in targets if t["health"] == "up"]
    if len(up) != nodes:
        yield f"{len(up)} of {nodes} nodes are scraped: {[t['lastError'] for t in targets]}"
        return
    rules = [rule for group in ask(base, "rules")["groups"] for rule in group["rules"]]
    if not rules:
        yield "there are no alert rules"
    for rule in rules:
        if rule["health"] != "ok":
            yield f"rule {rule['name']}: {rule['health']} {rule.get('lastError', '')}"
    board = json.loads((Path(__file__).parent / "dashboards" / "everdesk.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            found = ask(base, "query", query=target["expr"])["result"]
            if not found and not any(part in target["expr"] for part in MAY_BE_EMPTY):
                yield f"{panel['title']}: nothing for {target['expr']}"


def main():
    base, nodes = sys.argv[1], int(sys.argv[2])
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            found = list(problems(base, nodes))
        except OSError as error:
            found = [str(error)]
        if not found:
            return
        if time.monotonic() > deadline:
            sys.exit("\n".join(found))
        time.sleep(2)


main()
