"""The deployment files: hardened as they say, and naming only what exists. No engine runs here."""

import configparser
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from marbury.cli import app
from marbury.serve import ServeSettings
from marbury.serve.metrics import Metrics
from marbury.settings import build

DEPLOY = Path(__file__).parent.parent / "deploy"
FILES = ["compose.yaml", "prometheus.yml", "alerts.yml", "kubernetes.yaml"]
SERVE: Any = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
PORT = ServeSettings().port
# What others read: Python, numba, OpenMP, Hugging Face's client, PostgreSQL's client and image. Marbury reads none.
VARIABLES = {
    *("PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "TMPDIR"),
    *("NUMBA_CACHE_DIR", "OMP_NUM_THREADS", "HF_HUB_OFFLINE"),
    *("PGPASSWORD", "POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"),
}


def read(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def dockerfile() -> list[tuple[str, str]]:
    """Instruction and arguments of each line, continued ones joined."""
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def unit() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",), delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((DEPLOY / "marbury.service").read_text())
    return parser["Service"]


COMPOSE = read("compose.yaml")[0]
GUARD = COMPOSE["services"]["guard"]
KUBERNETES = {one["kind"]: one for one in read("kubernetes.yaml")}
POD = KUBERNETES["Deployment"]["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]


def commands() -> dict[str, list[str]]:
    """The command that each file runs."""
    entry = [yaml.safe_load(rest) for word, rest in dockerfile() if word in ("ENTRYPOINT", "CMD")]
    return {
        "Dockerfile": entry[0] + entry[1],
        "compose.yaml": ["marbury", *GUARD["command"]],
        "kubernetes.yaml": ["marbury", *CONTAINER["args"]],
        "marbury.service": shlex.split(unit()["ExecStart"]),
    }


def set_values(command: list[str]) -> dict[str, str]:
    joined = " ".join(command)
    return dict(re.findall(r"--set[= ](\w+)=(\S+)", joined))


def variables() -> Iterator[str]:
    for word, rest in dockerfile():
        if word == "ENV":
            yield from re.findall(r"(\w+)=", rest)
    for service in COMPOSE["services"].values():
        yield from service.get("environment", {})
    yield from (one["name"] for one in CONTAINER.get("env", []))
    yield from re.findall(r"(\w+)=", unit()["Environment"])


@pytest.mark.parametrize("name", FILES)
def test_the_yaml_is_yaml_without_a_key_twice(name: str) -> None:
    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [self.construct_object(key, deep) for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"{name}: {keys}"
            return super().construct_mapping(node, deep)

    assert list(yaml.load_all((DEPLOY / name).read_text(), Strict))


@pytest.mark.parametrize("name", commands())
def test_every_command_is_one_of_ours(name: str) -> None:
    command = commands()[name]
    assert Path(command[0]).name == "marbury" and command[1] == "serve"
    known = {option for parameter in SERVE.params for option in parameter.opts}
    assert {word.partition("=")[0] for word in command if word.startswith("--")} <= known
    given = set_values(command)
    assert set(given) <= {field.name for field in fields(ServeSettings)}
    build(ServeSettings, {key: float(value) if value.isdecimal() else value for key, value in given.items()}, name)


def test_every_environment_variable_is_read_by_somebody() -> None:
    found = set(variables())
    assert {"NUMBA_CACHE_DIR", "PGPASSWORD"} <= found <= VARIABLES


def test_the_image_runs_as_nobody_in_particular() -> None:
    words = dockerfile()
    last_stage = words[max(i for i, (word, _) in enumerate(words) if word == "FROM") :]
    user = [rest for word, rest in last_stage if word == "USER"]
    assert user == ["10001:10001"]
    after = [word for word, _ in last_stage[[word for word, _ in last_stage].index("USER") :]]
    assert "RUN" not in after and "COPY" not in after and {"HEALTHCHECK", "ENTRYPOINT", "STOPSIGNAL"} <= set(after)
    assert not any(word == "ADD" or (word == "FROM" and ("latest" in rest or ":" not in rest)) for word, rest in words)
    copied = {path for word, rest in words if word == "COPY" and "--from" not in rest for path in rest.split()[:-1]}
    assert all((DEPLOY.parent / path).exists() for path in copied)
    ignored = (DEPLOY.parent / ".dockerignore").read_text().split()
    assert ignored[0] == "*" and {f"!{path}" for path in copied} <= set(ignored)


def test_compose_gives_the_guard_nothing_that_it_does_not_need() -> None:
    assert GUARD["read_only"] is True and GUARD["cap_drop"] == ["ALL"] and GUARD["user"] == "10001:10001"
    assert "no-new-privileges:true" in GUARD["security_opt"] and "privileged" not in GUARD
    assert GUARD["volumes"][0]["target"] == "/guard" and GUARD["volumes"][0]["read_only"] is True
    assert {volume["source"] for volume in GUARD["volumes"][1:]} <= set(COMPOSE["volumes"])
    assert COMPOSE["networks"]["back"]["internal"] is True
    assert COMPOSE["services"]["postgres"]["networks"] == ["back"] and "ports" not in COMPOSE["services"]["postgres"]
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert service.get("build") or re.search(r":v?\d", service["image"])
        assert "no-new-privileges:true" in service["security_opt"] and service["mem_limit"]


def test_no_password_stands_in_a_file() -> None:
    for path in DEPLOY.iterdir():
        for value in re.findall(r"PASSWORD:? *[:=] *(\S+)", path.read_text()):
            assert value.startswith("${POSTGRES_PASSWORD:?") or value == "...", f"{path.name}: {value}"


def test_kubernetes_runs_it_unprivileged_and_asks_the_right_questions() -> None:
    pod, container = POD["securityContext"], CONTAINER["securityContext"]
    assert pod["runAsNonRoot"] is True and pod["runAsUser"] == 10001
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["readOnlyRootFilesystem"] is True and container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert POD["automountServiceAccountToken"] is False
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert CONTAINER["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert CONTAINER["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert {"requests", "limits"} <= set(CONTAINER["resources"])
    mounts = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in POD["volumes"]} and mounts["guard"]["readOnly"] is True


def test_kubernetes_finds_its_own() -> None:
    labels = KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        KUBERNETES["Deployment"]["spec"]["selector"]["matchLabels"],
        KUBERNETES["Service"]["spec"]["selector"],
        KUBERNETES["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert KUBERNETES["Service"]["spec"]["ports"][0]["targetPort"] == CONTAINER["ports"][0]["name"]
    assert KUBERNETES["ServiceAccount"]["metadata"]["name"] == POD["serviceAccountName"]
    assert KUBERNETES["PodDisruptionBudget"]["spec"]["minAvailable"] < KUBERNETES["Deployment"]["spec"]["replicas"]


def test_systemd_shuts_it_in() -> None:
    service = unit()
    assert service["User"] not in ("", "root") and service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict" and service["CapabilityBoundingSet"] == ""
    assert service["ReadOnlyPaths"] == shlex.split(service["ExecStart"])[2]
    assert service["Restart"] == "on-failure"


def test_nothing_kills_it_before_its_streams_have_had_their_time() -> None:
    drain = {name: float(set_values(command).get("drain_s", 30)) for name, command in commands().items()}
    assert float(GUARD["stop_grace_period"].removesuffix("s")) > drain["compose.yaml"]
    pause = float(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["terminationGracePeriodSeconds"] > pause + drain["kubernetes.yaml"]
    assert float(unit()["TimeoutStopSec"]) > drain["marbury.service"]


def test_everybody_means_the_same_port() -> None:
    words = dict(dockerfile())
    assert words["EXPOSE"] == str(PORT) and f"127.0.0.1:{PORT}/readyz" in words["HEALTHCHECK"]
    assert GUARD["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]
    assert CONTAINER["ports"][0]["containerPort"] == PORT
    assert KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(PORT)
    job = read("prometheus.yml")[0]["scrape_configs"][0]
    assert job["static_configs"][0]["targets"] == [f"guard:{PORT}"] and job["metrics_path"] == "/metrics"


def test_every_alert_asks_for_a_metric_that_exists() -> None:
    known = {metric.name: metric for metric in Metrics().registry.collect()}
    labels = {f"marbury_{name}": set(getattr(Metrics(), name)._labelnames) for name in ("requests", "decisions")}
    labels["marbury_policy_info"] = set(Metrics().policy._labelnames)
    for rule in read("alerts.yml")[0]["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in ("page", "ticket") and rule["annotations"]["summary"]
        for metric, chosen in re.findall(r"(marbury_\w+)(?:\{([^}]*)\})?", rule["expr"]):
            name = metric.removesuffix("_total")
            assert name in known, f"{rule['alert']} asks for {metric}"
            assert set(re.findall(r"(\w+)[=!]", chosen)) <= labels[name]
