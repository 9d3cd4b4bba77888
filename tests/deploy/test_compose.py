"""compose.yaml is well formed, and every command in it that starts this app is one of its own.

There is no Docker where these tests run: the file is read, not started.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from backend.settings import Settings
from terminal.arguments import Serve, read_command
from tests.deploy.compose import faults_of_compose, fill_in, read_compose, services_of

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
ENGINES = {"lmdeploy": 23333, "vllm": 8000, "sglang": 30000}
PROFILES = ("local", "cuda", *ENGINES)


@pytest.fixture
def document() -> dict[str, Any]:
    return read_compose(TEXT)


def test_the_file_has_no_fault(document: dict[str, Any]) -> None:
    assert faults_of_compose(document) == []


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ("image: nginx:1.28-alpine", "image: nginx", "nginx: its image is not pinned by a tag"),
        ("image: nginx:1.28-alpine", "image: nginx:latest", "its image is not pinned by a tag"),
        ("profiles: [nginx]", "profiles: []", "nginx: it starts with every profile"),
        ("{lmdeploy: {cond", "{lmdeplay: {cond", "it waits for lmdeplay, which is not there"),
        ("{lmdeploy: {cond", "{vllm: {cond", "it waits for vllm, which its profile does not start"),
        ("\n  hub:", "\n  hab:", "volume hub is not declared"),
        ('"443:443"', '"443"', "nginx: port 443 is no pair of ports"),
    ],
)
def test_a_fault_is_seen(right: str, wrong: str, fault: str) -> None:
    assert right in TEXT
    assert any(
        fault in told for told in faults_of_compose(read_compose(TEXT.replace(right, wrong)))
    )


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("restart: unless-stopped", "restart: sometimes"),
        ("condition: service_started", "condition: service_ready"),
        ("    profiles: [nginx]", "    profile: [nginx]"),
        ("start_period: 2h", "start_period: long"),
        ("${LMDEPLOY_IMAGE:-openmmlab/lmdeploy:v0.18.0}", "${LMDEPLOY_IMAGE}"),
    ],
)
def test_a_bad_form_is_refused(right: str, wrong: str) -> None:
    assert right in TEXT
    with pytest.raises(ValueError, match=r"."):
        read_compose(TEXT.replace(right, wrong))


def test_variables_are_filled_in_as_compose_does() -> None:
    text = "${A:-x} ${A:-} $$HOME ${B-y}"
    assert fill_in(text, {}) == "x  $HOME y"
    assert fill_in(text, {"A": "1", "B": "2"}) == "1 1 $HOME 2"


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_a_page_and_its_engine(document: dict[str, Any], profile: str) -> None:
    names = {f"page-{profile}"} | ({profile} if profile in ENGINES else set())
    assert set(services_of(document, profile)) == names


def command_of(document: dict[str, Any], profile: str) -> Serve:
    command = read_command(document["services"][f"page-{profile}"]["command"])
    assert isinstance(command, Serve)
    return command


@pytest.mark.parametrize("profile", ["local", "cuda"])
def test_the_page_with_its_own_model_is_started_as_our_parser_wants(
    document: dict[str, Any], profile: str
) -> None:
    assert command_of(document, profile).settings == Settings("auto", host="0.0.0.0")


@pytest.mark.parametrize(("engine", "port"), ENGINES.items())
def test_the_page_finds_its_engine_where_that_listens(
    document: dict[str, Any], engine: str, port: int
) -> None:
    address = f"http://{engine}:{port}/v1"
    assert command_of(document, engine).settings == Settings(host="0.0.0.0", engines=(address,))
    started = document["services"][engine]
    assert str(port) in started["command"] and f":{port}/" in started["healthcheck"]["test"][-1]


def test_variables_reach_the_page() -> None:
    usual = read_compose(TEXT, {})
    assert usual["services"]["nginx"]["environment"]["ROOT_PATH"] == ""
    assert command_of(usual, "local").settings.root_path == ""
    chosen = read_compose(TEXT, {"MODEL": "2B", "ROOT_PATH": "/chat", "PORT": "8080"})
    settings = command_of(chosen, "local").settings
    assert settings == Settings("2B", host="0.0.0.0", root_path="/chat")
    assert chosen["services"]["page-local"]["ports"] == ["127.0.0.1:8080:7860"]
    assert chosen["services"]["nginx"]["environment"]["ROOT_PATH"] == settings.root_path


def test_what_is_fetched_is_kept_where_each_looks_for_it(document: dict[str, Any]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "HF_HOME=/cache" in dockerfile and "VOLUME /cache" in dockerfile
    for name, service in document["services"].items():
        kept = [volume.split(":")[1] for volume in service["volumes"] if volume[0] not in "./"]
        if name.startswith("page-"):
            assert kept == ["/cache"]
        elif name in ENGINES:
            assert kept == ["/root/.cache/huggingface"]


def test_only_the_proxy_is_open_to_others(document: dict[str, Any]) -> None:
    services = document["services"]
    open_ones = {
        name
        for name, service in services.items()
        if any(not str(port).startswith("127.0.0.1:") for port in service.get("ports", ()))
    }
    assert open_ones == {"nginx"}


def test_the_proxy_is_told_every_name_of_its_template(document: dict[str, Any]) -> None:
    nginx = document["services"]["nginx"]
    source, target, _ = nginx["volumes"][0].split(":")
    template = (ROOT / source).read_text(encoding="utf-8")
    assert target == "/etc/nginx/templates/default.conf.template"
    assert set(re.findall(r"\$\{([A-Z_]+)\}", template)) == set(nginx["environment"])
    assert all(isinstance(value, str) for value in nginx["environment"].values())
