"""One connection to Temporal, from settings: the running stack's server, or a profile as `temporal` reads it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetClusterInfoRequest
from temporalio.client import Client, Interceptor, Plugin
from temporalio.envconfig import ClientConfig
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RPCError, RPCStatusCode

from holdfast.errors import HoldfastError
from holdfast_workers.converter import data_converter
from holdfast_workers.settings import SettingsError, TemporalSettings

CONNECT_WITHIN_S = 10.0
DEFAULT_ADDRESS = "localhost:7233"
DEFAULT_NAMESPACE = "default"


class TemporalUnavailable(HoldfastError):
    """Temporal cannot be reached."""

    code = "transient"


class NamespaceMissing(HoldfastError):
    """This Temporal has no such namespace."""

    code = "wrong_temporal"


def connect_options(settings: TemporalSettings) -> dict[str, Any]:
    """What `Client.connect` takes: `target_host`, `namespace`, and `api_key`, `tls`, `rpc_metadata` where set.

    Raises `SettingsError` where the profile or its file cannot be used.
    """
    options: dict[str, Any] = {}
    if not settings.embedded:
        try:
            options |= ClientConfig.load_client_connect_config(
                profile=settings.profile, override_env_vars=settings.environ
            )
        except Exception as error:  # the bridge's ConfigError has no public name
            raise SettingsError(f"Temporal's configuration cannot be used: {error}.") from error
    flags = {"target_host": settings.address, "namespace": settings.namespace}
    options |= {name: value for name, value in flags.items() if value}
    return {"target_host": DEFAULT_ADDRESS, "namespace": DEFAULT_NAMESPACE, **options}


CORE_LOGS = TelemetryFilter(core_level="WARN", other_level="ERROR")


@cache
def silent_runtime() -> Runtime:
    """A runtime for commands. The default one's core writes what it retries to stdout, among the results."""
    return Runtime(telemetry=TelemetryConfig(logging=None))


def core_logging() -> LoggingConfig:
    """Temporal's core logs as Python's loggers do, instead of to stdout: for workers."""
    return LoggingConfig(CORE_LOGS, forwarding=LogForwardingConfig(logging.getLogger("temporalio.core")))


@cache
def logging_runtime() -> Runtime:
    return Runtime(telemetry=TelemetryConfig(logging=core_logging()))


async def connect_temporal(
    settings: TemporalSettings,
    *,
    plugins: Sequence[Plugin] = (),
    interceptors: Sequence[Interceptor] = (),
    runtime: Runtime | None = None,
) -> Client:
    """Connect now. Raises `TemporalUnavailable` naming the address, or `SettingsError`."""
    options = connect_options(settings)
    try:
        return await asyncio.wait_for(
            Client.connect(
                **options,
                data_converter=data_converter,
                plugins=plugins,
                interceptors=interceptors,
                runtime=runtime,
            ),
            CONNECT_WITHIN_S,
        )
    except (RuntimeError, RPCError, TimeoutError) as error:
        raise TemporalUnavailable(unreachable(options["target_host"], error)) from error


def unreachable(address: str, error: BaseException) -> str:
    """What to tell a person whose Temporal does not answer."""
    why = str(error).rsplit("message: ", 1)[-1].strip('"} )') or "no answer in time"
    return (
        f"Temporal does not answer at {address} ({why}). Start the stack with `holdfast up`, "
        "or say where Temporal is with --address, --profile or TEMPORAL_ADDRESS."
    )


async def identity(client: Client) -> tuple[str, str]:
    """Which Temporal this is: its cluster id and the namespace. A database belongs to one such pair.

    Raises `TemporalUnavailable`, `NamespaceMissing`.
    """
    try:
        info = await client.workflow_service.get_cluster_info(GetClusterInfoRequest())
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise namespace_missing(client) from error
        raise TemporalUnavailable(unreachable(client.service_client.config.target_host, error)) from error
    return info.cluster_id, client.namespace


def namespace_missing(client: Client) -> NamespaceMissing:
    return NamespaceMissing(
        f"Temporal at {client.service_client.config.target_host} has no namespace `{client.namespace}`. Create it, "
        "or name another one with --namespace, --profile or TEMPORAL_NAMESPACE."
    )
