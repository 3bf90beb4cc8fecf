"""`http_request` reaches listed hosts at public addresses, and nothing else."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from holdfast import Tier, ToolRefused, ToolUnavailable
from holdfast.config import HttpSettings
from holdfast_activities.calls.outgoing import Outgoing, client_for
from holdfast_activities.resources import RESOURCES, Resources
from holdfast_activities.tools.arguments import CheckedCall, Misfit, check_call
from holdfast_activities.tools.book import card_of
from holdfast_activities.tools.builtin import http_request
from holdfast_activities.tools.builtin.addresses import allowed, is_public
from tests.activities.tools.conftest import Service


class Context:
    """What `http_request` takes of a ToolContext."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.shared = httpx2.AsyncHTTPTransport(verify=False)  # plain HTTP only: no list of authorities to load
        self.http = client_for(
            Outgoing(self.shared), key="the-key", trace={"traceparent": "00-1"}, timeout=timedelta(seconds=5)
        )
        http = HttpSettings.model_validate(settings)
        self.resources = {RESOURCES: Resources(workspace=root, http=http, read_result=_nothing)}


async def _nothing(session: str, call: str) -> bytes | None:
    return None


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Contexts of a worker with these `[http]` settings."""
    made: list[Context] = []

    def with_settings(**settings: Any) -> Context:
        made.append(Context(tmp_path, **settings))
        return made[-1]

    yield with_settings
    for context in made:
        await context.shared.aclose()


@pytest.fixture
def local(worker: Callable[..., Any]) -> Any:
    """A worker that may call 127.0.0.1."""
    return worker(allow_hosts=["127.0.0.1"], allow_private=True)


async def test_a_listed_host_is_reached_with_the_key_and_the_trace(local: Any, service: Service) -> None:
    answer = await http_request(local, service.url + "/ok", "POST", {"Idempotency-Key": "forged"}, "{}")

    assert (answer["status"], answer["body"]) == (200, '{"done": true}')
    _, _, headers = service.requests[0]
    assert (headers["idempotency-key"], headers["traceparent"]) == ("the-key", "00-1")
    assert headers["host"] == service.url.removeprefix("http://")


@pytest.mark.parametrize(
    "settings",
    [{}, {"allow_hosts": ["example.com"]}, {"allow_hosts": ["127.0.0.1:1"]}, {"allow_hosts": ["127.0.0.1"]}],
    ids=["no list", "another host", "another port", "a private address"],
)
async def test_what_is_not_allowed_is_never_contacted(
    worker: Callable[..., Any], service: Service, settings: dict[str, Any]
) -> None:
    context = worker(**settings)

    with pytest.raises(ToolRefused):
        await http_request(context, service.url + "/ok")

    assert not service.requests


async def test_a_name_that_resolves_to_a_private_address_is_refused(
    worker: Callable[..., Any], service: Service
) -> None:
    context = worker(allow_hosts=["localhost"])

    with pytest.raises(ToolRefused, match="private address"):
        await http_request(context, f"http://localhost:{service.port}/ok")

    assert not service.requests


async def test_the_address_that_was_checked_is_the_one_connected_to(
    worker: Callable[..., Any], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that turns private after the check (DNS rebinding) changes nothing: it is looked up once."""
    context = worker(allow_hosts=["rebinding.example"], allow_private=True)
    answers = iter(["127.0.0.1"])

    def look_up(host: str, *rest: Any, **more: Any) -> list[Any]:
        if host == "rebinding.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), service.port))]
        return real(host, *rest, **more)

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    answer = await http_request(context, f"http://rebinding.example:{service.port}/ok")

    assert answer["status"] == 200
    assert service.requests[0][2]["host"] == f"rebinding.example:{service.port}"


async def test_a_redirect_is_shown_and_not_followed(local: Any, service: Service) -> None:
    answer = await http_request(local, service.url + "/redirect")

    assert (answer["status"], answer["headers"]["location"]) == (302, "http://169.254.169.254/latest")
    assert len(service.requests) == 1


async def test_an_error_status_is_an_answer_and_not_a_failure(local: Any, service: Service) -> None:
    assert (await http_request(local, service.url + "/status/404"))["status"] == 404


async def test_a_long_body_is_cut_at_the_cap(worker: Callable[..., Any], service: Service) -> None:
    context = worker(allow_hosts=["127.0.0.1"], allow_private=True, max_bytes=4)

    answer = await http_request(context, service.url + "/ok")

    assert answer["body"] == '{"do'
    assert "its first 4 bytes" in answer["cut"]


async def test_a_host_that_does_not_exist_may_be_tried_again(worker: Callable[..., Any]) -> None:
    context = worker(allow_hosts=["*.invalid"])

    with pytest.raises(ToolUnavailable, match="does not resolve"):
        await http_request(context, "http://nobody.invalid/")


@pytest.mark.parametrize(
    ("method", "tier"),
    [("GET", Tier.READ), ("HEAD", Tier.READ), ("POST", Tier.IRREVERSIBLE), ("DELETE", Tier.IRREVERSIBLE)],
)
def test_the_method_decides_the_tier(method: str, tier: Tier) -> None:
    checked = check_call(
        http_request, card_of(http_request, "x"), {"url": "https://a.example/x?q=1", "method": method}
    )

    assert isinstance(checked, CheckedCall)
    assert checked.tier is tier
    assert checked.recovery == ("retry" if tier is Tier.READ else "operator")
    assert checked.facts == {"tier": tier, "method": method, "host": "a.example", "scheme": "https"}


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "gopher://x", "https://", "http://user:secret@example.com/", "no url", "//x/y"]
)
def test_an_address_of_another_kind_is_refused_before_anyone_decides(url: str) -> None:
    assert isinstance(check_call(http_request, card_of(http_request, "x"), {"url": url}), Misfit)


@pytest.mark.parametrize(
    ("host", "port", "entry", "answer"),
    [
        ("api.example.com", 443, "api.example.com", True),
        ("API.example.com.", 443, "api.example.com", True),
        ("api.example.com", 443, "*.example.com", True),
        ("example.com", 443, "*.example.com", False),
        ("evilexample.com", 443, "*.example.com", False),
        ("api.example.com", 8080, "api.example.com:443", False),
        ("api.example.com", 443, "api.example.com:443", True),
        ("api.example.com.evil.net", 443, "api.example.com", False),
        ("::1", 80, "[::1]", True),
    ],
)
def test_the_list_of_hosts_matches_whole_names(host: str, port: int, entry: str, answer: bool) -> None:
    assert allowed(host, port, [entry]) is answer


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("::1", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "::"),
    ],
)
def test_no_private_address_counts_as_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


def test_a_public_address_is_public() -> None:
    assert is_public(ipaddress.ip_address("8.8.8.8"))
    assert is_public(ipaddress.ip_address("2606:4700:4700::1111"))
