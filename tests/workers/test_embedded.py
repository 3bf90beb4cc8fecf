"""What the embedded stack's processes are told, and what never reaches them."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast_workers.capacity import ROLES, WorkerSettings
from holdfast_workers.embedded import WORKER_STOPS_WITHIN_S, Embedded
from holdfast_workers.settings import ModelSettings, Settings
from holdfast_workers.stack.runtime import Addresses
from holdfast_workers.temporal import connect_options

ADDRESSES = Addresses(
    temporal="127.0.0.1:7300",
    namespace="default",
    temporal_http="http://127.0.0.1:7301",
    ui="http://127.0.0.1:8300",
    migrate_dsn="postgresql://owner:secret@127.0.0.1:5500/holdfast",
    app_dsn="postgresql://app@127.0.0.1:5500/holdfast",
    auditor_dsn="postgresql://auditor@127.0.0.1:5500/holdfast",
    services={"model": "http://127.0.0.1:8787"},
)


def embedded(home: Path, **model: str) -> Embedded:
    return Embedded(home=home, task_queue="q", model=ModelSettings(**model))


def worker_settings(stack: Embedded, environ: dict[str, str]) -> Settings:
    """The settings that the stack's worker reads from its environment."""
    return Settings.load({**environ, **stack.worker_environment(ADDRESSES, environ)}, cwd=stack.home)


def test_a_worker_of_the_stack_uses_the_stack_alone(tmp_path, monkeypatch):
    profile = tmp_path / "temporalio" / "temporal.toml"
    profile.parent.mkdir()
    profile.write_text('[profile.default]\naddress = "production:7233"\napi_key = "secret"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    user = {
        "TEMPORAL_ADDRESS": "production:7233",
        "TEMPORAL_API_KEY": "secret",
        "TEMPORAL_PROFILE": "production",
        "HOLDFAST_DSN": "postgresql://production/holdfast",
        "PGHOST": "production",
    }
    settings = worker_settings(embedded(tmp_path), user)
    assert connect_options(settings.temporal) == {"target_host": "127.0.0.1:7300", "namespace": "default"}
    assert settings.dsn == ADDRESSES.app_dsn
    assert settings.task_queue == "q"


def test_a_worker_never_holds_the_owners_password(tmp_path):
    user = {"HOLDFAST_MIGRATE_DSN": "postgresql://owner:secret@production/holdfast"}
    environment = embedded(tmp_path).worker_environment(ADDRESSES, user)
    assert "secret" not in " ".join({**user, **environment}.values())


def test_the_stacks_worker_serves_everything_and_ends_soon_whatever_the_users_workers_do(tmp_path):
    user = {"HOLDFAST_WORKER_SERVES": "tools", "HOLDFAST_WORKER_PROCESSES": "8", "HOLDFAST_WORKER_GRACE": "1h"}
    chosen = WorkerSettings.from_env({**user, **embedded(tmp_path).worker_environment(ADDRESSES, user)})
    assert (chosen.serves, chosen.process_count) == (ROLES, 1)
    assert chosen.grace.total_seconds() < WORKER_STOPS_WITHIN_S


def test_without_a_key_the_stack_has_the_scripted_model(tmp_path):
    stack = embedded(tmp_path)
    assert [service.name for service in stack.plan({}).services] == ["model"]
    assert worker_settings(stack, {}).model.scripted


@pytest.mark.parametrize("given", [{"api_key": "k"}, {"base_url": "http://gateway"}, {"provider": "bedrock"}])
def test_with_a_real_model_there_is_no_scripted_one(tmp_path, given):
    assert embedded(tmp_path, **given).plan({}).services == ()
