"""`python -m holdfast_workers.scripted_model`, as the embedded stack runs it."""

import asyncio
import signal
import socket
import sys
from pathlib import Path

import httpx2
import pytest


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


async def spawn(*arguments: str | Path) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "holdfast_workers.scripted_model", *map(str, arguments))
    return await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)


async def healthy(url: str) -> dict:
    async with asyncio.timeout(20), httpx2.AsyncClient() as http:
        while True:
            try:
                answer = await http.get(f"{url}/healthz")
            except httpx2.ConnectError:
                await asyncio.sleep(0.02)
                continue
            assert answer.status_code == 200
            return answer.json()


async def test_it_serves_and_leaves_cleanly_on_sigterm(tmp_path):
    scenario = "{name: mine, description: d, example: e, match: e, turns: [{text: hi}]}"
    (tmp_path / "mine.yaml").write_text(scenario)
    port = free_port()
    process = await spawn("--port", str(port), "--scenarios", tmp_path)
    try:
        assert (await healthy(f"http://127.0.0.1:{port}"))["scenarios"][0] == "mine"
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 10)
    finally:
        if process.returncode is None:
            process.kill()
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize("what", ["port", "scenario"])
async def test_what_is_wrong_is_said_in_a_line(tmp_path, what):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] if what == "port" else free_port()
        missing = [] if what == "port" else ["--scenarios", tmp_path / "none.yaml"]
        process = await spawn("--port", str(port), *missing)
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert errors.decode().startswith("scripted model: ")
    assert errors.count(b"\n") == 1
