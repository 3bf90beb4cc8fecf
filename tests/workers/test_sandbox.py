"""The sandbox of workers: entered for what workflows do, and for nothing else that nobody asks for."""

import dataclasses

import pytest
from temporalio.client import Client
from temporalio.converter import PayloadCodec
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from holdfast_workers.converter import data_converter
from holdfast_workers.plugin import HoldfastPlugin
from holdfast_workers.sandbox import WithoutContexts, sandboxed_runner


class Codec(PayloadCodec):
    async def encode(self, payloads):
        return list(payloads)

    async def decode(self, payloads):
        return list(payloads)


async def runner_of(given: WorkflowRunner, codec: PayloadCodec | None = None) -> WorkflowRunner:
    """The runner of a worker whose client nobody connects."""
    converter = dataclasses.replace(data_converter, payload_codec=codec)
    client = await Client.connect("127.0.0.1:1", data_converter=converter, lazy=True)
    return HoldfastPlugin().configure_worker({"client": client, "workflow_runner": given})["workflow_runner"]


@pytest.mark.parametrize("codec", [None, Codec()])
async def test_a_codec_hears_for_whom_each_payload_is_and_without_one_nobody_is_asked(codec) -> None:
    runner = await runner_of(SandboxedWorkflowRunner(), codec)

    assert isinstance(runner, WithoutContexts) == (codec is None)
    assert isinstance(runner, SandboxedWorkflowRunner)
    assert runner.restrictions == sandboxed_runner().restrictions


async def test_a_runner_of_ones_own_stays() -> None:
    own = UnsandboxedWorkflowRunner()

    assert await runner_of(own) is own
