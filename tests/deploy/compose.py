"""Reads a compose file as `docker compose` would, and tells what would fail or surprise.

Its form is judged by the `compose-spec` package; the rules here are those that a form cannot
hold: what is named exists, what is waited for can come true, and nothing changes under us.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from compose_spec import PyCompose

VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Z_]+)(?::?-([^}]*))?\})")
TAG = re.compile(r"[^:@]+:(?P<tag>[\w.-]+)")


def read_compose(text: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file with its variables and merges resolved. Raises `ValueError` for a bad form."""
    filled = fill_in(text, environment or {})
    document = yaml.safe_load(filled)
    PyCompose.from_yaml(yaml.safe_dump(document))
    if not isinstance(document, dict):
        raise ValueError("the file is no mapping")
    return document


def fill_in(text: str, environment: Mapping[str, str]) -> str:
    """`${NAME:-default}` and `$$` as compose resolves them; refuses a variable without default."""

    def value_of(match: re.Match[str]) -> str:
        dollar, name, default = match.groups()
        if dollar:
            return "$"
        value = environment.get(name) or default
        if value is None:
            raise ValueError(f"{name} has no default")
        return value

    return VARIABLE.sub(value_of, text)


def faults_of_compose(document: dict[str, Any]) -> list[str]:
    """What is wrong beyond the form."""
    services: dict[str, Any] = document["services"]
    faults = ["version is obsolete"] if "version" in document else []
    for name, service in services.items():
        faults += [f"{name}: {fault}" for fault in _faults_of_service(service, services)]
    declared, used = set(document.get("volumes") or ()), set(_named_volumes(services))
    faults += [f"volume {volume} is not declared" for volume in sorted(used - declared)]
    faults += [f"volume {volume} is not used" for volume in sorted(declared - used)]
    return faults


def services_of(document: dict[str, Any], *profiles: str) -> dict[str, Any]:
    """The services that start with these profiles."""
    return {
        name: service
        for name, service in document["services"].items()
        if not service.get("profiles") or set(profiles) & set(service["profiles"])
    }


def _faults_of_service(service: dict[str, Any], services: dict[str, Any]) -> Iterator[str]:
    tag = TAG.fullmatch(service.get("image", ""))
    if tag is None or tag["tag"] == "latest":
        yield "its image is not pinned by a tag"
    if not service.get("profiles"):
        yield "it starts with every profile"
    if "healthcheck" not in service and "build" not in service:
        yield "nobody sees whether it is healthy"
    for port in service.get("ports", ()):
        if not re.fullmatch(r"(127\.0\.0\.1:)?\d+:\d+", str(port)):
            yield f"port {port} is no pair of ports"
    for other, wait in (service.get("depends_on") or {}).items():
        if other not in services:
            yield f"it waits for {other}, which is not there"
        elif wait.get("required", True) and not set(service["profiles"]) <= set(
            services[other]["profiles"]
        ):
            yield f"it waits for {other}, which its profile does not start"


def _named_volumes(services: dict[str, Any]) -> Iterator[str]:
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if not source.startswith((".", "/")):
                yield source
