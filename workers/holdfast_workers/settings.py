"""Settings: where the servers are and how to reach them, read once at the edge and passed down.

Each value comes from the first of: a flag, the environment, the stack running in `HOLDFAST_HOME`, the default.
One thing ranks lower: a default profile in Temporal's own configuration file, which nobody named, loses to a
stack that somebody started. Nothing heavy is imported: a command that only prints must not wait for a client.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, ValidationError

from holdfast.durations import Duration
from holdfast.errors import HoldfastError
from holdfast.wire import Strict
from holdfast_activities.messages_api import client as messages_api
from holdfast_workers.keys import KeySettings
from holdfast_workers.telemetry.ambient import trace_from_env

if TYPE_CHECKING:
    from holdfast_workers.stack.runtime import Addresses

TASK_QUEUE = "holdfast"
Fairness = Literal["off", "tenant", "user"]
"""Among whom the workers' time is shared where more sessions wait than they have room for."""
CONFIG_FILE = "holdfast.toml"
CHECKPOINT_KEY_FILE = "checkpoint-key.pem"
"""In the home of an embedded stack, made with it, readable by its owner alone."""
CHECKPOINT_INTERVAL = timedelta(minutes=5)
POSTGRES_ELSEWHERE = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE")
"""libpq variables that say which database; the rest (`PGUSER`, `PGPASSWORD`, ...) only refine it."""


class SettingsError(HoldfastError):
    """A setting cannot be used."""

    code = "invalid"


class TemporalSettings(Strict):
    """Which Temporal. Whatever is None comes from the profile, and then from Temporal's own defaults."""

    address: str | None = None
    """`host:port`."""
    namespace: str | None = None
    profile: str | None = None
    environ: Mapping[str, str] = Field(default_factory=dict, repr=False)
    """The `TEMPORAL_*` variables as they were (they may hold a key); empty where the running stack answers."""
    embedded: bool = False
    """This is the server of the running stack: no profile, no key, no TLS."""


class ModelSettings(messages_api.ModelSettings):
    """Which service answers for the model, and whether it is Claude at all."""

    scripted: bool = False
    """`base_url` is the scripted model's: nobody is paid and nothing is decided by Claude."""

    @property
    def configured(self) -> bool:
        """Whether a real model was asked for; without one `holdfast up` plays scenarios."""
        return not self.scripted and bool(
            self.provider != "anthropic" or self.api_key or self.auth_token or self.base_url
        )


class Settings(Strict):
    """Everything one process needs to know about its surroundings."""

    home: Path
    config: Path | None = None
    """`holdfast.toml`; None where there is none, which leaves the built-in agent."""
    dsn: str | None = Field(default=None, repr=False)
    """Postgres as the app role; a bare `postgresql://` leaves everything to the libpq variables."""
    migrate_dsn: str | None = Field(default=None, repr=False)
    """Postgres as the owner, for `db migrate` alone."""
    pgbouncer: bool = False
    """The DSN leads through PgBouncer in transaction mode: nothing is prepared, and watchers poll."""
    task_queue: str = TASK_QUEUE
    fairness: Fairness = "off"
    temporal: TemporalSettings = TemporalSettings()
    ui_url: str | None = None
    """Base address of Temporal's UI, for links."""
    keys: KeySettings = KeySettings()
    """Master keys, for the contents of encrypted sessions."""
    checkpoint_key: str | None = Field(default=None, repr=False)
    """Signs checkpoints: the path of a PEM file, or the PEM itself. None: this process makes none."""
    checkpoint_public_keys: str | None = None
    """What checkpoints may be signed with besides: a PEM file of public keys, or the PEM itself."""
    checkpoint_interval: Duration = CHECKPOINT_INTERVAL
    trace: Mapping[str, str] = Field(default_factory=dict)
    """W3C trace context that whoever started this process handed on."""
    model: ModelSettings = ModelSettings()

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str],
        *,
        home: Path | None = None,
        config: Path | None = None,
        profile: str | None = None,
        address: str | None = None,
        namespace: str | None = None,
        dsn: str | None = None,
        cwd: Path | None = None,
    ) -> Self:
        """Read the surroundings once. The keyword arguments are flags and win.

        Raises `SettingsError`: a variable has a value it cannot have, or names a file that is not there.
        """
        at = home or default_home(environ)
        stack = running_stack(at)
        try:
            return cls(
                home=at,
                config=_config(environ, config, cwd or Path()),
                dsn=_dsn(environ, dsn, stack),
                migrate_dsn=_migrate_dsn(environ, dsn, stack),
                pgbouncer=environ.get("HOLDFAST_PGBOUNCER") or False,
                task_queue=environ.get("HOLDFAST_TASK_QUEUE") or TASK_QUEUE,
                fairness=environ.get("HOLDFAST_FAIRNESS") or "off",
                temporal=_temporal(environ, profile, address, namespace, stack),
                keys=KeySettings.from_env(environ),
                checkpoint_key=_checkpoint_key(environ, dsn, stack, at),
                checkpoint_public_keys=environ.get("HOLDFAST_CHECKPOINT_PUBLIC_KEYS") or None,
                checkpoint_interval=environ.get("HOLDFAST_CHECKPOINT_INTERVAL") or CHECKPOINT_INTERVAL,
                ui_url=environ.get("HOLDFAST_UI_URL") or (stack.ui if stack else None),
                trace=trace_from_env(environ),
                model=_model(environ, stack),
            )
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise SettingsError(f"The setting `{where}` cannot be {first['input']!r}: {first['msg']}.") from error


ENVIRONMENT: Mapping[str, str] = {
    "HOLDFAST_HOME": "Where the embedded stack keeps its state.",
    "HOLDFAST_CONFIG": "The agents' and tools' file; the default is `./holdfast.toml` where there is one.",
    "HOLDFAST_DSN": "Postgres, as a member of the role `holdfast_app`.",
    "HOLDFAST_MIGRATE_DSN": "Postgres as the schema's owner, for `holdfast db migrate` alone.",
    "HOLDFAST_PGBOUNCER": "`true` where the DSN leads through PgBouncer in transaction mode; watchers poll then.",
    "HOLDFAST_TASK_QUEUE": "The queue that sessions start on and workers poll.",
    "HOLDFAST_FAIRNESS": "Among whom workers' time is shared: `off`, `tenant` or `user`.",
    "HOLDFAST_MASTER_KEYS": "Master keys, `ID:BASE64` of 32 bytes, the newest first: new sessions are encrypted.",
    "HOLDFAST_MASTER_KEYS_FILE": "The same from a file, one a line.",
    "HOLDFAST_KMS": "`module:function` that makes a key service of yours, instead of keys in the process.",
    "HOLDFAST_CHECKPOINT_KEY": "Ed25519 private key, a PEM file or PEM, that signs checkpoints of the ledger.",
    "HOLDFAST_CHECKPOINT_PUBLIC_KEYS": "Public keys, a PEM file or PEM, that may have signed older ones.",
    "HOLDFAST_CHECKPOINT_INTERVAL": "How often workers make a checkpoint, where something happened.",
    "HOLDFAST_WORKER_SERVES": "What a worker process serves, with commas: `sessions`, `model`, `tools`.",
    "HOLDFAST_WORKER_CACHED_SESSIONS": "Idle sessions that a worker process keeps in memory.",
    "HOLDFAST_WORKER_ACTIVITIES": "Activities of the sessions' queue that a worker process runs at the same time.",
    "HOLDFAST_WORKER_MODEL_CALLS": "The same for the queue of model calls, where it is another.",
    "HOLDFAST_WORKER_TOOL_CALLS": "The same for the queue of tools, where it is another.",
    "HOLDFAST_WORKER_PROCESSES": "How many processes a `worker start` makes: a number, or `auto`.",
    "HOLDFAST_WORKER_GRACE": "How long what runs may finish after SIGTERM.",
    "HOLDFAST_WORKER_SWEEP_EVERY": "How often sagas are looked for whose workflow died.",
    "HOLDFAST_UI_URL": "Base address of Temporal's UI, for the links that commands print.",
    "HOLDFAST_MODEL_PROVIDER": "`anthropic`, `bedrock` or `vertex`; the clouds read their own variables.",
    "ANTHROPIC_API_KEY": "Key for Claude. Without any model setting `holdfast up` plays scripted scenarios.",
    "ANTHROPIC_AUTH_TOKEN": "Bearer token instead of a key, for gateways.",
    "ANTHROPIC_BASE_URL": "Another address of the Messages API: a gateway or a scripted model.",
    "HOLDFAST_SCRIPTED_MODEL": "Base address of a scripted model to ask instead of Claude, whatever keys are set.",
    "TEMPORAL_PROFILE": "Profile of Temporal's configuration file, the one the `temporal` command reads.",
    "TEMPORAL_CONFIG_FILE": "Another place for that file.",
    "TEMPORAL_ADDRESS": "Temporal's address, `host:port`.",
    "TEMPORAL_NAMESPACE": "Temporal's namespace.",
    "TEMPORAL_API_KEY": "Key for Temporal Cloud; the `TEMPORAL_TLS_*` variables work too.",
    "TRACEPARENT": "W3C trace context that the requests of this process join; `TRACESTATE` goes with it.",
    "PGHOST": "With `PGSERVICE` or `PGDATABASE` and the rest of libpq's variables: Postgres, where no DSN is set.",
}
"""Every variable read here, in words; docs/configuration.md lists the same."""


def default_home(environ: Mapping[str, str]) -> Path:
    """`HOLDFAST_HOME`, else the user's data directory of this platform; always absolute."""
    if chosen := environ.get("HOLDFAST_HOME"):
        return Path(chosen).expanduser().resolve()
    from platformdirs import user_data_path

    return user_data_path("holdfast").resolve()


def running_stack(home: Path) -> Addresses | None:
    """Where the parts of the stack running in `home` are; None where none is ready."""
    if not (home / "runtime.json").exists():
        return None  # the usual case of a production image, which does not carry the stack's packages
    from holdfast_workers.stack.runtime import read_runtime

    runtime = read_runtime(home)
    return runtime.addresses if runtime else None


def _config(environ: Mapping[str, str], flag: Path | None, cwd: Path) -> Path | None:
    named = flag or (Path(environ["HOLDFAST_CONFIG"]) if environ.get("HOLDFAST_CONFIG") else None)
    if named is None:
        usual = cwd / CONFIG_FILE
        return usual.resolve() if usual.is_file() else None
    found = (cwd / named.expanduser()).resolve()
    if not found.is_file():
        raise SettingsError(f"There is no configuration file `{found}`; `holdfast init` writes one.")
    return found


def _dsn(environ: Mapping[str, str], flag: str | None, stack: Addresses | None) -> str | None:
    if named := flag or environ.get("HOLDFAST_DSN"):
        return named
    if any(environ.get(name) for name in POSTGRES_ELSEWHERE):
        return "postgresql://"
    return stack.app_dsn if stack else None


def _migrate_dsn(environ: Mapping[str, str], flag: str | None, stack: Addresses | None) -> str | None:
    if named := environ.get("HOLDFAST_MIGRATE_DSN"):
        return named
    # The stack's owner belongs to the stack's database, never to another one named by hand.
    return stack.migrate_dsn if stack and _dsn(environ, flag, stack) == stack.app_dsn else None


def _checkpoint_key(
    environ: Mapping[str, str], flag: str | None, stack: Addresses | None, home: Path
) -> str | None:
    if named := environ.get("HOLDFAST_CHECKPOINT_KEY"):
        return named
    # As with its owner: the stack's key signs for the stack's database alone.
    file = home / CHECKPOINT_KEY_FILE
    return str(file) if stack and _dsn(environ, flag, stack) == stack.app_dsn and file.exists() else None


def _temporal(
    environ: Mapping[str, str],
    profile: str | None,
    address: str | None,
    namespace: str | None,
    stack: Addresses | None,
) -> TemporalSettings:
    own = {name: value for name, value in environ.items() if name.startswith("TEMPORAL_") and value}
    if stack and not own and not profile and not address:
        return TemporalSettings(address=stack.temporal, namespace=namespace or stack.namespace, embedded=True)
    return TemporalSettings(address=address, namespace=namespace, profile=profile, environ=own)


def _model(environ: Mapping[str, str], stack: Addresses | None) -> ModelSettings:
    if scripted := environ.get("HOLDFAST_SCRIPTED_MODEL"):
        return ModelSettings(provider="gateway", base_url=scripted, scripted=True)
    given: dict[str, Any] = {
        "provider": environ.get("HOLDFAST_MODEL_PROVIDER"),
        "api_key": environ.get("ANTHROPIC_API_KEY"),
        "auth_token": environ.get("ANTHROPIC_AUTH_TOKEN"),
        "base_url": environ.get("ANTHROPIC_BASE_URL"),
    }
    asked = ModelSettings(**{name: value for name, value in given.items() if value})
    if asked.base_url and not (asked.api_key or asked.auth_token) and asked.provider == "anthropic":
        asked = asked.model_copy(update={"provider": "gateway"})  # which holds the key itself
    if asked.configured or not stack or not stack.model:
        return asked
    return ModelSettings(provider="gateway", base_url=stack.model, scripted=True)
