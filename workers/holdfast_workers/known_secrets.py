"""The secrets a worker knows: none of them may stay in what a tool says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

from holdfast.config import Config
from holdfast_activities.redaction import Redactor
from holdfast_workers.settings import Settings

SHORTEST_PASSWORD = 12
"""Of a database. Shorter ones, such as `postgres`, stand in ordinary words; in a URL they are found anyway."""


def redactor_of(config: Config, settings: Settings, environ: Mapping[str, str]) -> Redactor:
    """By the names in `[secrets]`, and what this worker itself connects with."""
    named = {name: environ[name] for name in (*config.secrets.allow, *config.secrets.redact) if environ.get(name)}
    return Redactor({**dict(_own(config, settings, environ)), **named}, detect=config.secrets.detect)


def _own(config: Config, settings: Settings, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    model = settings.model
    for name, secret in (("ANTHROPIC_API_KEY", model.api_key), ("ANTHROPIC_AUTH_TOKEN", model.auth_token)):
        if secret:
            yield name, secret.get_secret_value()
    if cloud := settings.temporal.environ.get("TEMPORAL_API_KEY"):
        yield "TEMPORAL_API_KEY", cloud
    dsns = {"HOLDFAST_DSN": settings.dsn, "HOLDFAST_MIGRATE_DSN": settings.migrate_dsn}
    if config.sql.dsn_env:
        dsns[config.sql.dsn_env] = environ.get(config.sql.dsn_env)
    for name, dsn in dsns.items():
        password = unquote(urlsplit(dsn).password or "") if dsn else ""
        if len(password) >= SHORTEST_PASSWORD:
            yield name, password
    for number, entry in enumerate((settings.keys.keys or "").replace(",", "\n").splitlines()):
        if key := entry.strip().partition(":")[2]:
            yield f"HOLDFAST_MASTER_KEYS.{number}", key
