"""deploy/monitoring: Prometheus' own checker reads all of it, and every metric is one that the manual explains."""

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from .refusal import Missing, Refused

FOLDER = "deploy/monitoring"
# The engine's metrics, and those that rules.yml records.
METRIC = re.compile(r"\b(?:bitnet_\w+|llamacpp:\w+|instance:[\w:]+)")
# What Grafana puts in before it asks.
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*"}


def promtool(*arguments):
    program = shutil.which("promtool")
    if program is None:
        raise Missing("promtool is not installed (Debian: prometheus)", required=True)
    run = subprocess.run([program, *arguments], capture_output=True, text=True)
    if run.returncode:
        raise Refused(run.stdout + run.stderr)


def rules(tree):
    groups = yaml.safe_load((tree / FOLDER / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def rules_hold(tree):
    """Configuration and rules load, every alert is tested, and the tests pass."""
    folder = tree / FOLDER
    promtool("check", "config", folder / "prometheus.yml")
    tests = yaml.safe_load((folder / "rules_test.yml").read_text())["tests"]
    fired = {test["alertname"] for part in tests for test in part["alert_rule_test"] if test.get("exp_alerts")}
    alerts = {rule["alert"] for rule in rules(tree) if "alert" in rule}
    if fired != alerts:
        raise Refused(f"alerts that no test makes fire, or that are not there: {sorted(fired ^ alerts)}")
    untold = sorted(alert for alert in alerts if f"`{alert}`" not in (folder / "README.md").read_text())
    if untold:
        raise Refused(f"README.md does not explain {untold}")
    promtool("test", "rules", folder / "rules_test.yml")
    return f"{len(alerts)} alerts, {len(tests)} tests"


def dashboard_expressions(tree):
    """Title of the panel and expression."""
    try:
        panels = json.loads((tree / FOLDER / "dashboard.json").read_text())["panels"]
    except json.JSONDecodeError as error:
        raise Refused(f"dashboard.json is no JSON: {error}") from error
    places = [(panel["id"], tuple(panel["gridPos"].items())) for panel in panels]
    if len({place for _, place in places}) != len(panels) or len({one for one, _ in places}) != len(panels):
        raise Refused("two panels have one place or one number")
    return [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]


def dashboard_parses(tree):
    found = dashboard_expressions(tree)
    recorded = []
    for index, (_, expression) in enumerate(found):
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        if "$" in expression:
            raise Refused(f"an unknown variable: {expression}")
        recorded.append({"record": f"panel:{index}", "expr": expression})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "dashboard.yml")
        file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
        promtool("check", "rules", file)
    return f"{len(found)} expressions"


def metrics_exist(tree):
    manual = (tree / "docs/operating.md").read_text()
    known = set(METRIC.findall(manual)) | {rule["record"] for rule in rules(tree) if "record" in rule}
    expressions = [rule["expr"] for rule in rules(tree)] + [expression for _, expression in dashboard_expressions(tree)]
    scaled = (tree / "deploy/kubernetes/components/keda/scaledobject.yaml").read_text()
    used = {name for expression in [*expressions, scaled] for name in METRIC.findall(expression)}
    # A histogram's series.
    unknown = sorted(name for name in used if name not in known and re.sub(r"_(bucket|sum|count)$", "", name) not in known)
    if unknown:
        raise Refused(f"docs/operating.md knows no {unknown}")
    return f"{len(used)} names"
