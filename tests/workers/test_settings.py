"""Where each setting comes from, and that all of them are documented."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast_workers.settings import ENVIRONMENT, Settings, SettingsError
from holdfast_workers.stack.home import Home
from holdfast_workers.stack.processes import ProcessIdentity
from holdfast_workers.stack.runtime import Addresses, Ports, Runtime, hold_lock
from holdfast_workers.temporal import connect_options
from holdfast_workers.worker import VARIABLES, WorkerSettings

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture
def stack_home(tmp_path):
    """A home whose stack runs, as far as anybody who asks can tell."""
    home = Home(tmp_path / "home")
    home.prepare()
    addresses = Addresses(
        temporal="127.0.0.1:7300",
        namespace="default",
        temporal_http="http://127.0.0.1:7301",
        ui="http://127.0.0.1:8300",
        migrate_dsn="postgresql://owner@127.0.0.1:5500/holdfast",
        app_dsn="postgresql://app@127.0.0.1:5500/holdfast",
        auditor_dsn="postgresql://auditor@127.0.0.1:5500/holdfast",
        services={"model": "http://127.0.0.1:8787"},
    )
    ports = Ports(temporal=7300, temporal_http=7301, temporal_ui=8300, postgres=5500)
    supervisor = ProcessIdentity.of_this_process("supervisor")
    with hold_lock(home):
        Runtime(state="ready", supervisor=supervisor, ports=ports, addresses=addresses).write(home)
        yield home.path


def test_the_running_stack_answers_where_nothing_else_is_said(stack_home):
    settings = Settings.load({"HOLDFAST_HOME": str(stack_home)})
    assert settings.dsn == "postgresql://app@127.0.0.1:5500/holdfast"
    assert settings.migrate_dsn == "postgresql://owner@127.0.0.1:5500/holdfast"
    assert settings.ui_url == "http://127.0.0.1:8300"
    assert settings.model.scripted
    assert connect_options(settings.temporal) == {"target_host": "127.0.0.1:7300", "namespace": "default"}


def test_the_environment_wins_over_the_running_stack(stack_home):
    settings = Settings.load(
        {
            "HOLDFAST_HOME": str(stack_home),
            "HOLDFAST_DSN": "postgresql://elsewhere/db",
            "TEMPORAL_ADDRESS": "temporal.example:7233",
            "TEMPORAL_CONFIG_FILE": os.devnull,
            "ANTHROPIC_API_KEY": "k",
        }
    )
    assert settings.dsn == "postgresql://elsewhere/db"
    assert connect_options(settings.temporal)["target_host"] == "temporal.example:7233"
    assert settings.model.configured
    assert not settings.model.scripted


def test_a_flag_wins_over_the_environment(tmp_path):
    environ = {
        "HOLDFAST_HOME": str(tmp_path),
        "HOLDFAST_DSN": "postgresql://environment/db",
        "TEMPORAL_ADDRESS": "environment:7233",
        "TEMPORAL_NAMESPACE": "environment",
        "TEMPORAL_CONFIG_FILE": os.devnull,
    }
    settings = Settings.load(environ, dsn="postgresql://flag/db", address="flag:7233", namespace="flag")
    assert settings.dsn == "postgresql://flag/db"
    assert connect_options(settings.temporal) == {"target_host": "flag:7233", "namespace": "flag"}


def test_the_owner_of_the_stack_never_migrates_another_database(stack_home):
    settings = Settings.load({"HOLDFAST_HOME": str(stack_home)}, dsn="postgresql://elsewhere/db")
    assert settings.migrate_dsn is None


def test_a_default_profile_nobody_named_loses_to_a_running_stack(stack_home, tmp_path, monkeypatch):
    file = tmp_path / ".config" / "temporalio" / "temporal.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[profile.default]\naddress = "production:7233"\napi_key = "secret"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))  # read by Temporal's own code
    environ = {"HOLDFAST_HOME": str(stack_home)}
    assert connect_options(Settings.load(environ).temporal)["target_host"] == "127.0.0.1:7300"
    named = Settings.load(environ, profile="default")
    assert connect_options(named.temporal)["target_host"] == "production:7233"


def test_an_unknown_profile_is_refused_by_name(tmp_path):
    settings = Settings.load({"HOLDFAST_HOME": str(tmp_path)}, profile="nope")
    with pytest.raises(SettingsError, match="nope"):
        connect_options(settings.temporal)


@pytest.mark.parametrize("variable", ["PGHOST", "PGSERVICE", "PGDATABASE"])
def test_libpq_variables_name_a_database(tmp_path, variable):
    settings = Settings.load({"HOLDFAST_HOME": str(tmp_path), variable: "x"})
    assert settings.dsn == "postgresql://"


def test_a_user_name_alone_names_no_database(tmp_path):
    assert Settings.load({"HOLDFAST_HOME": str(tmp_path), "PGUSER": "x"}).dsn is None


def test_holdfast_toml_of_the_current_directory_is_found(tmp_path):
    (tmp_path / "holdfast.toml").touch()
    environ = {"HOLDFAST_HOME": str(tmp_path / "home")}
    assert Settings.load(environ, cwd=tmp_path).config == tmp_path / "holdfast.toml"
    assert Settings.load(environ, cwd=tmp_path.parent).config is None


def test_a_configuration_that_was_named_must_exist(tmp_path):
    with pytest.raises(SettingsError, match=re.escape("no configuration file")):
        Settings.load({"HOLDFAST_HOME": str(tmp_path), "HOLDFAST_CONFIG": "nowhere.toml"}, cwd=tmp_path)


def test_a_value_that_cannot_be_is_named(tmp_path):
    with pytest.raises(SettingsError, match=re.escape("provider")):
        Settings.load({"HOLDFAST_HOME": str(tmp_path), "HOLDFAST_MODEL_PROVIDER": "abacus"})


@pytest.mark.parametrize(("given", "means"), [("true", True), ("1", True), ("false", False), ("", False)])
def test_pgbouncer_is_said_in_words(tmp_path, given, means):
    assert Settings.load({"HOLDFAST_HOME": str(tmp_path), "HOLDFAST_PGBOUNCER": given}).pgbouncer is means


def test_no_secret_shows_in_a_printed_setting(tmp_path):
    settings = Settings.load(
        {
            "HOLDFAST_HOME": str(tmp_path),
            "HOLDFAST_DSN": "postgresql://app:s3cret@db/h",
            "HOLDFAST_MIGRATE_DSN": "postgresql://owner:s3cret@db/h",
            "ANTHROPIC_API_KEY": "s3cret",
            "ANTHROPIC_AUTH_TOKEN": "s3cret",
            "TEMPORAL_API_KEY": "s3cret",
        }
    )
    assert "s3cret" not in repr(settings)


def test_the_stacks_checkpoint_key_signs_for_the_stacks_own_database_alone(stack_home):
    home = {"HOLDFAST_HOME": str(stack_home)}
    assert Settings.load(home).checkpoint_key is None
    key = stack_home / "checkpoint-key.pem"
    key.write_text("a key")
    assert Settings.load(home).checkpoint_key == str(key)
    assert Settings.load(home | {"HOLDFAST_DSN": "postgresql://elsewhere/db"}).checkpoint_key is None
    assert Settings.load(home | {"HOLDFAST_CHECKPOINT_KEY": "mine.pem"}).checkpoint_key == "mine.pem"
    assert Settings.load(home | {"HOLDFAST_CHECKPOINT_INTERVAL": "30s"}).checkpoint_interval.seconds == 30


def test_a_worker_takes_its_numbers_from_the_environment_and_names_what_cannot_be():
    given = {
        "HOLDFAST_WORKER_ACTIVITIES": "400",
        "HOLDFAST_WORKER_GRACE": "10m",
        "HOLDFAST_WORKER_SERVES": "sessions, tools",
        "HOLDFAST_WORKER_CACHED_SESSIONS": "",
    }
    settings = WorkerSettings.from_env(given)
    assert (settings.activities, settings.grace.total_seconds(), settings.cached_sessions) == (400, 600, 200)
    assert settings.serves == ("sessions", "tools")
    with pytest.raises(SettingsError, match="`HOLDFAST_WORKER_ACTIVITIES` cannot be 'many'"):
        WorkerSettings.from_env({"HOLDFAST_WORKER_ACTIVITIES": "many"})
    assert set(VARIABLES) <= set(WorkerSettings.model_fields)
    assert {name for name in ENVIRONMENT if "_WORKER_" in name} == set(VARIABLES.values())


def test_every_setting_is_documented_and_every_documented_one_is_read():
    rows = re.findall(r"^\| `([A-Z_]+)` \|", DOCUMENT.read_text(), flags=re.MULTILINE)
    assert sorted(rows) == sorted(ENVIRONMENT)


def test_every_variable_the_code_reads_is_listed():
    source = Path(sys.modules[Settings.__module__].__file__ or "").read_text()
    read = set(re.findall(r'environ\.get\("([A-Z_]+)"\)|environ\["([A-Z_]+)"\]', source))
    assert {first or second for first, second in read} <= set(ENVIRONMENT)


def test_settings_load_without_a_client_or_driver(tmp_path):
    code = (
        "import sys\n"
        "from holdfast_workers.settings import Settings\n"
        f"Settings.load({{'HOLDFAST_HOME': {str(tmp_path)!r}}})\n"
        "print([m for m in ('temporalio', 'anthropic', 'asyncpg', 'rich', 'click') if m in sys.modules])\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
