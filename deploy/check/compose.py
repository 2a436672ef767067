"""Checks what the compose schema cannot: names in a compose file that refer to its other parts.

usage: compose.py FILE
"""

import sys

import yaml


def faults(compose):
    services = compose["services"]
    for name, service in services.items():
        profiles = set(service.get("profiles", []))
        depends = service.get("depends_on", {})
        for other in depends:
            if other not in services:
                yield f"{name}: depends_on {other}, which is no service"
                continue
            # Starting a service must not start one of a profile that was not asked for.
            needed = set(services[other].get("profiles", []))
            if needed and needed != profiles:
                yield f"{name}: depends_on {other}, which has the profiles {sorted(needed)}"
            condition = depends[other]["condition"] if isinstance(depends, dict) else "service_started"
            if condition == "service_healthy" and "healthcheck" not in services[other]:
                yield f"{name}: waits for {other} to be healthy, which has no health check"
        for kind in ("configs", "secrets", "networks"):
            for use in service.get(kind, []):
                source = use["source"] if isinstance(use, dict) else use
                if source != "default" and source not in compose.get(kind, {}):
                    yield f"{name}: {kind} {source}, which is not defined"
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            named = source.isidentifier() or source.replace("-", "_").isidentifier()
            if named and source not in compose.get("volumes", {}):
                yield f"{name}: volume {source}, which is not defined"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        found = list(faults(yaml.safe_load(file)))
    for fault in found:
        print(fault)
    sys.exit(bool(found))


main()
