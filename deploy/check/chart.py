"""Checks the Helm chart with Helm itself, and writes the manifests of every set of values for other validators.

usage: chart.py CHART OUT      lint, render and check; write OUT/<set>.yaml, and custom resources to OUT/custom/
       chart.py CHART --update write the table of values in CHART/README.md
"""

import pathlib
import sys

import yaml

MARK = "<!-- Written by deploy/check.sh --update. -->\n"
CUSTOM = ("keda.sh/", "monitoring.coreos.com/")


def documented(text):
    """Yields the path and the description of every value, in the order of the file."""
    path, note = [], []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            note.append(stripped.removeprefix("#").strip())
            continue
        if ":" in stripped and not stripped.startswith("-"):
            depth = (len(line) - len(line.lstrip())) // 2
            path = path[:depth] + [stripped.split(":")[0]]
            described = " ".join(note)
            yield path, described.removeprefix("-- ") if described.startswith("-- ") else ""
        note = []


def table(chart):
    text = (chart / "values.yaml").read_text()
    defaults = yaml.safe_load(text)
    rows = ["| value | default | meaning |\n| --- | --- | --- |\n"]
    for path, note in documented(text):
        value = defaults
        try:
            for key in path:
                value = value[key]
        except (KeyError, TypeError):
            continue  # inside of a default that is shown as a whole
        if isinstance(value, dict) and value and not note:
            continue
        shown = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
        rows.append(f"| `{'.'.join(path)}` | `{shown}` | {note} |\n".replace("|  |", "| |"))
    return "".join(rows)


def fresh_readme(chart):
    head, _ = (chart / "README.md").read_text().split(MARK)
    return head + MARK + "\n" + table(chart)


def pods(manifests):
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec and "spec" in spec["template"]:
            yield manifest, spec["template"]


def matches(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def faults(manifests):
    """Yields what schemas cannot see: references between the manifests."""
    names = [(m["kind"], m["metadata"]["name"]) for m in manifests]
    for name in set(names):
        if names.count(name) > 1:
            yield f"{name} exists twice"
    labels = [template["metadata"]["labels"] for _, template in pods(manifests)]
    own_secrets = {name for kind, name in names if kind == "Secret"}
    accounts = {name for kind, name in names if kind == "ServiceAccount"}
    for manifest in manifests:
        what, spec = f"{manifest['kind']} {manifest['metadata']['name']}", manifest.get("spec", {})
        selector = spec.get("selector", spec.get("podSelector"))
        if selector:
            selector = selector.get("matchLabels", selector)
            if manifest["kind"] == "ServiceMonitor":
                services = [m["metadata"]["labels"] for m in manifests if m["kind"] == "Service"]
                found = [matches(selector, service) for service in services]
            else:
                found = [matches(selector, pod) for pod in labels]
            if manifest["kind"] != "NetworkPolicy" and not any(found):
                yield f"{what} selects nothing"
            if manifest["kind"] in ("Deployment", "StatefulSet") and sum(found) > 1:
                yield f"{what} selects the pods of others"
        target = spec.get("scaleTargetRef")
        if target and (target["kind"], target["name"]) not in names:
            yield f"{what} scales {target['name']}, which does not exist"
    for manifest, template in pods(manifests):
        what, pod = f"{manifest['kind']} {manifest['metadata']['name']}", template["spec"]
        if accounts and pod["serviceAccountName"] not in accounts:
            yield f"{what}: no service account {pod['serviceAccountName']}"
        volumes = {volume["name"] for volume in pod["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in manifest["spec"].get("volumeClaimTemplates", [])}
        for volume in pod["volumes"]:
            secret = volume.get("secret", {}).get("secretName", "")
            if secret.endswith("-config") and secret not in own_secrets:
                yield f"{what}: no secret {secret}"
        for container in pod["containers"]:
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            if mounted != volumes:
                yield f"{what}: volumes {sorted(volumes)} but mounts {sorted(mounted)}"
            variables = [variable["name"] for variable in container["env"]]
            if len(variables) != len(set(variables)):
                yield f"{what}: a variable is set twice"
            values = {variable["name"]: variable.get("value") for variable in container["env"]}
            pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            drain = int(values.get("PRECIS__WORKER__DRAIN_SECONDS", 0))
            if pause + drain >= pod.get("terminationGracePeriodSeconds", 30):
                yield f"{what}: is killed before it has stopped"


def check(chart, out):
    import helm_python

    found = []
    if (chart / "README.md").read_text() != fresh_readme(chart):
        found.append("README.md is out of date: run deploy/check.sh --update")
    sets = sorted((chart / "ci").glob("*-values.yaml"))
    for path in sets:
        name, values = path.name.removesuffix("-values.yaml"), yaml.safe_load(path.read_text()) or {}
        with helm_python.Chart.load(str(chart)) as loaded:
            loaded.validate_schema(values)
            rendered = loaded.render(values, name="news", namespace="precis")
        report = helm_python.lint(str(chart), values, strict=True, namespace="precis")
        found += [f"{name}: {error}" for error in report["errors"]]
        manifests = []
        for template, text in rendered.items():
            if not template.endswith("NOTES.txt"):
                manifests += [manifest for manifest in yaml.safe_load_all(text) if manifest]
        found += [f"{name}: {fault}" for fault in faults(manifests)]
        custom = [manifest for manifest in manifests if manifest["apiVersion"].startswith(CUSTOM)]
        own = [manifest for manifest in manifests if manifest not in custom]
        (out / f"{name}.yaml").write_text(yaml.safe_dump_all(own, sort_keys=False))
        (out / "custom").mkdir(exist_ok=True)
        for number, manifest in enumerate(custom):
            (out / "custom" / f"{name}-{number}.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
        print(f"{name}: {len(manifests)} manifests")
    for path in sorted((chart / "ci" / "refused").glob("*.yaml")):
        values, wanted = yaml.safe_load(path.read_text()), path.read_text().splitlines()[0].removeprefix("# ")
        try:
            with helm_python.Chart.load(str(chart)) as loaded:
                loaded.validate_schema(values)
                loaded.render(values, name="news", namespace="precis")
            found.append(f"{path.name} is not refused")
        except helm_python.HelmError as error:
            if wanted not in str(error):
                found.append(f"{path.name} is refused without {wanted!r}: {error}")
    for fault in found:
        print(fault)
    return bool(found) or len(sets) < 6


def main():
    chart = pathlib.Path(sys.argv[1])
    if sys.argv[2] == "--update":
        (chart / "README.md").write_text(fresh_readme(chart))
    else:
        sys.exit(check(chart, pathlib.Path(sys.argv[2])))


main()
