"""The client that speaks to Claude: the API itself, Bedrock, Vertex, or a gateway in front of them.

Retries are Temporal's and the ledger's business, so the client makes exactly one request per attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SecretStr

from holdfast.errors import HoldfastError
from holdfast.wire import Strict

if TYPE_CHECKING:
    import httpx2
    from anthropic import AsyncAnthropic, AsyncAnthropicBedrock, AsyncAnthropicVertex

    ModelClient = AsyncAnthropic | AsyncAnthropicBedrock | AsyncAnthropicVertex

Provider = Literal["anthropic", "bedrock", "vertex", "gateway"]


class ModelSettingsInvalid(HoldfastError):
    """The model's settings cannot work."""

    code = "invalid"


class ModelSettings(Strict):
    """Where the model is and how to reach it. Credentials that are not given come from the SDK's own chain."""

    provider: Provider = "anthropic"
    base_url: str | None = None
    api_key: SecretStr | None = None
    auth_token: SecretStr | None = None
    """Sent as a bearer token, for gateways."""
    headers: Mapping[str, str] = Field(default_factory=dict, repr=False)
    region: str | None = None
    """Bedrock's or Vertex's region; None is the cloud SDK's default."""
    project: str | None = None
    """Vertex's project id."""
    connect_timeout: timedelta = timedelta(seconds=10)
    stall_timeout: timedelta = timedelta(seconds=60)
    """Longest silence of a stream. The API sends pings, so silence means that the connection is lost."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> ModelSettings:
        """Read the Anthropic SDK's own variables: ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN, ANTHROPIC_BASE_URL."""
        names = {
            "api_key": "ANTHROPIC_API_KEY",
            "auth_token": "ANTHROPIC_AUTH_TOKEN",
            "base_url": "ANTHROPIC_BASE_URL",
        }
        return cls.model_validate({field: environ[name] for field, name in names.items() if environ.get(name)})


def open_client(settings: ModelSettings) -> ModelClient:
    """Build the client of a worker; close it with `await client.close()`.

    Raises:
        ModelSettingsInvalid: a package or a setting is missing, with what to install or set.
    """
    from anthropic import AnthropicError

    try:
        match settings.provider:
            case "anthropic" | "gateway":
                return _open_messages_api(settings)
            case "bedrock":
                return _open_bedrock(settings)
            case "vertex":
                return _open_vertex(settings)
    except (AnthropicError, ValueError) as error:  # a profile that cannot be read; no region
        raise ModelSettingsInvalid(f"provider `{settings.provider}`: {error}") from error


def _open_messages_api(settings: ModelSettings) -> AsyncAnthropic:
    from anthropic import AsyncAnthropic

    if settings.provider == "gateway" and settings.base_url is None:
        raise ModelSettingsInvalid("provider `gateway` needs the gateway's address; set `base_url`")
    key, token = _secret(settings.api_key), _secret(settings.auth_token)
    if key is None and token is None and settings.provider == "gateway":
        key = "none"  # the gateway holds the key; the SDK insists on some credential
    return AsyncAnthropic(
        api_key=key,
        auth_token=None if key is not None else token,  # the SDK takes one of them
        **_common(settings),
    )


def _open_bedrock(settings: ModelSettings) -> AsyncAnthropicBedrock:
    _require("boto3", "bedrock")
    from anthropic import AsyncAnthropicBedrock

    return AsyncAnthropicBedrock(aws_region=settings.region, api_key=_secret(settings.api_key), **_common(settings))


def _open_vertex(settings: ModelSettings) -> AsyncAnthropicVertex:
    _require("google.auth", "vertex")
    from anthropic import AsyncAnthropicVertex

    given: dict[str, Any] = {"region": settings.region, "project_id": settings.project}
    return AsyncAnthropicVertex(
        access_token=_secret(settings.auth_token),
        **{name: value for name, value in given.items() if value is not None},
        **_common(settings),
    )


def _common(settings: ModelSettings) -> dict[str, Any]:
    return {
        "base_url": settings.base_url,
        "default_headers": dict(settings.headers) or None,
        "timeout": _timeout(settings),
        "max_retries": 0,
        # Spans where telemetry is on, never with what was said, whatever the SDK's own variables ask for.
        "open_telemetry": {"traces": {"content_mode": "metadata_only"}},
    }


def _timeout(settings: ModelSettings) -> httpx2.Timeout:
    import httpx2

    connect, stall = settings.connect_timeout.total_seconds(), settings.stall_timeout.total_seconds()
    return httpx2.Timeout(stall, connect=connect)


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value is not None else None


def _require(module: str, extra: str) -> None:
    package = module.partition(".")[0]  # find_spec of a submodule fails where the parent is missing
    if find_spec(package) is None or find_spec(module) is None:
        raise ModelSettingsInvalid(
            f"provider `{extra}` needs `{module}`, which is not installed; pip install 'holdfast[{extra}]'"
        )
