"""How many times an effect stands at its service: the user's own word, by a command or an address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import httpx2

from holdfast.errors import HoldfastError

Count: TypeAlias = Callable[[], Awaitable[int]]
WITHIN_S = 30.0


class CountFailed(HoldfastError):
    """The count cannot be used."""

    code = "invalid"


def by_command(command: str) -> Count:
    """A shell command whose output is the number."""

    async def count() -> int:
        process = await asyncio.create_subprocess_shell(
            command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            said, complaint = await asyncio.wait_for(process.communicate(), WITHIN_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise CountFailed(f"The count `{command}` did not end within {WITHIN_S:.0f} s.") from None
        if process.returncode != 0:
            why = complaint.decode(errors="replace").strip()[-300:]
            raise CountFailed(f"The count `{command}` ended with {process.returncode}: {why or 'it said nothing'}")
        return _number(said.decode(errors="replace"), f"`{command}`")

    return count


def by_url(url: str) -> Count:
    """An address that answers the number to a GET."""

    async def count() -> int:
        try:
            # Without TLS there is nothing to verify, and the list of authorities takes 50 ms to load.
            async with httpx2.AsyncClient(timeout=WITHIN_S, verify=url.startswith("https:")) as client:
                answer = await client.get(url)
                answer.raise_for_status()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise CountFailed(f"The count cannot be read from {url}: {error}.") from error
        return _number(answer.text, url)

    return count


def _number(said: str, where: str) -> int:
    try:
        return int(said.strip())
    except ValueError:
        raise CountFailed(f"The count of {where} is no whole number: {said.strip()[:100]!r}.") from None
