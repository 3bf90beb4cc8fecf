"""`holdfast.toml` as a model: agents, tools, and what the worker lends to built-in tools.

Every table is strict: a misspelt key is an error, never a silent default. Reading the file, and saying on which
line it is wrong, is the worker's part.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from holdfast.catalogue import AgentSpec
from holdfast.durations import Duration
from holdfast.errors import HoldfastError
from holdfast.guards import LEASE, RENEWAL, Breaker, RepeatScope
from holdfast.pricing import OwnPrices, PriceTable
from holdfast.queues import Queues
from holdfast.states import RecoveryClass, Tier
from holdfast.wire import Strict

WORKSPACE_READS = ("list_files", "read_file", "search_files")
WORKSPACE_WRITES = ("write_file", "edit_file")
MAX_QUEUE_NAME = 200
REFERENCE = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"


class ConfigError(HoldfastError):
    """The configuration cannot be used."""

    code = "invalid"

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ToolEntry(Strict):
    """`[tools.NAME]`: a plain function as a tool, or a declared `@tool` with some of its settings replaced."""

    run: str = Field(pattern=REFERENCE)
    """`module:attribute`, e.g. `acme.tools:send_invoice`."""
    tier: Tier | None = None
    recovery: RecoveryClass | None = None
    key_ttl: Duration | None = None
    """With `recovery = "idempotent"`: how long the service remembers a key."""
    probe: str | None = Field(default=None, pattern=REFERENCE)
    """With `recovery = "probe"`: the function that asks the service."""
    timeout: Duration | None = None
    attempts: int | None = Field(default=None, ge=1)
    result_cap: int | None = Field(default=None, ge=200)
    """Characters of a result the model sees; the whole is kept."""
    undo: str | None = None
    """The compensating tool: a `[tools.NAME]` name or `module:attribute`."""
    undo_if_unknown: str | None = None
    """The tool that undoes it by its key where nobody knows whether it happened: a name like that of `undo`."""
    never_undone: str | None = None
    """Why it cannot be undone; the tool asks a person first."""
    description: str | None = None
    version: str | None = None
    required: bool | None = None
    fallback: str | None = None
    owner: str | None = None
    runbook: str | None = None
    service: str | None = None
    cost_usd: float | None = Field(default=None, ge=0)
    inline: bool | None = None
    """A read of at most one second that may run inside the workflow task: one event instead of six."""
    semantic_key: str | None = Field(default=None, pattern=REFERENCE)
    """The function that says what makes two calls the same."""
    semantic_window: Duration | None = None
    semantic_scope: RepeatScope | None = None
    breaker: Breaker | None = None
    """`breaker = { failures = 5, within = "1m", open_for = "30s" }`; none by default."""

    @model_validator(mode="after")
    def _one_undo(self) -> ToolEntry:
        if self.undo and self.never_undone:
            raise ValueError("give `undo` or `never_undone`, not both")
        if self.key_ttl and self.recovery not in (None, RecoveryClass.IDEMPOTENT):
            raise ValueError('`key_ttl` belongs to recovery = "idempotent"')
        if (self.recovery is RecoveryClass.PROBE) != (self.probe is not None):
            raise ValueError('recovery = "probe" and `probe = "module:function"` belong together')
        return self


class HttpSettings(Strict):
    """`[http]`: where `http_request` may go. No host is allowed until it is listed."""

    allow_hosts: tuple[str, ...] = ()
    """Exact hosts, or `*.example.com` for every host below it; with `host:port` only that port."""
    allow_private: bool = False
    """Also loopback, link-local and private addresses."""
    timeout: Duration = Field(default="20s", validate_default=True)
    max_bytes: int = Field(default=2_000_000, ge=1)


class SqlSettings(Strict):
    """`[sql]`: the database `query_sql` reads. The DSN is named, never written here."""

    dsn_env: str | None = None
    """Environment variable that holds the DSN; give it a role that can only read."""
    timeout: Duration = Field(default="10s", validate_default=True)
    max_rows: int = Field(default=200, ge=1, le=10_000)


class WorkspaceSettings(Strict):
    """`[workspace]`: the directory the file tools work in, relative to the configuration file."""

    path: str = "."


class EffectSettings(Strict):
    """`[effects]`: how long an attempt that says nothing is taken for alive, judged on Postgres' clock."""

    lease: Duration = LEASE
    renewal: Duration = RENEWAL
    """How often a living attempt extends its lease."""

    @model_validator(mode="after")
    def _three_renewals(self) -> EffectSettings:
        if self.renewal <= timedelta(0):
            raise ValueError("`renewal` must be above zero")
        if self.lease < 3 * self.renewal:
            raise ValueError(
                f"a lease of {self.lease.total_seconds():g} s is shorter than three renewals of "
                f"{self.renewal.total_seconds():g} s: one late renewal would put a healthy call in doubt"
            )
        return self


class QueueSettings(Strict):
    """`[queues]`: task queues of their own. Where none is named, everything runs on the session's own."""

    model: str = Field(default="", max_length=MAX_QUEUE_NAME)
    """For model calls."""
    tools: str = Field(default="", max_length=MAX_QUEUE_NAME)
    """For tools, their probes and their undos; inline calls stay with their session."""

    @model_validator(mode="after")
    def _two_queues(self) -> QueueSettings:
        if self.model and self.model == self.tools:
            raise ValueError(f"`model` and `tools` are both `{self.model}`: name two queues, or one of them alone")
        return self

    @property
    def planned(self) -> Queues:
        """As plans carry them."""
        return Queues(model=self.model, tools=self.tools)


class LedgerSettings(Strict):
    """`[ledger]`: how the contents of new sessions are stored."""

    encryption: Literal["auto", "required", "off"] = "auto"
    """`auto` encrypts where there is a master key; with `required` nothing starts without one."""


class SecretSettings(Strict):
    """`[secrets]`: which environment variables a tool may read, and what is cut out of results."""

    allow: tuple[str, ...] = ()
    """Names a tool may read through `ToolContext.secret`; their values never stay in a result."""
    redact: tuple[str, ...] = ()
    """More environment variables whose values never stay in a result."""
    detect: bool = True
    """Also what looks like a credential of a known kind."""


def default_agent() -> AgentSpec:
    """The agent of a machine without a configuration: reads and writes files of the workspace, undoably."""
    return AgentSpec(name="default", tools=(*WORKSPACE_READS, *WORKSPACE_WRITES, "ask_human"))


class Config(Strict):
    """The whole file. Without any agent there is one, `default`."""

    version: Literal[1] = 1
    agents: Mapping[str, AgentSpec] = Field(default_factory=dict)
    tools: Mapping[str, ToolEntry] = Field(default_factory=dict)
    sagas: tuple[Annotated[str, Field(pattern=REFERENCE)], ...] = ()
    """`module:attribute` of declared sagas, which the worker serves beside those that ship."""
    http: HttpSettings = HttpSettings()
    sql: SqlSettings = SqlSettings()
    workspace: WorkspaceSettings = WorkspaceSettings()
    secrets: SecretSettings = SecretSettings()
    effects: EffectSettings = EffectSettings()
    queues: QueueSettings = QueueSettings()
    ledger: LedgerSettings = LedgerSettings()
    prices: Mapping[str, OwnPrices] = Field(default_factory=dict)
    """`[prices."model"]`: dollars per million tokens; wins over the built-in table."""

    @field_validator("agents", mode="before")
    @classmethod
    def _named(cls, agents: Any) -> Any:
        """The table's name is the agent's."""
        if not isinstance(agents, Mapping):
            return agents
        for name, table in agents.items():
            if isinstance(table, Mapping) and table.get("name", name) != name:
                raise ValueError(f"[agents.{name}] `name` cannot be another: the table's name is the agent's")
        return {
            name: {**table, "name": name} if isinstance(table, Mapping) else table for name, table in agents.items()
        }

    @model_validator(mode="after")
    def _some_agent(self) -> Config:
        if not self.agents:
            object.__setattr__(self, "agents", {"default": default_agent()})
        return self

    @property
    def price_table(self) -> PriceTable:
        """The overrides as `holdfast.pricing.cost_usd` takes them."""
        return {model: own.prices for model, own in self.prices.items()}
