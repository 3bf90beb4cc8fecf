"""What is cut out of a tool's words: secrets this worker knows, and credentials by their looks; nothing else."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from holdfast import tool
from holdfast.config import Config
from holdfast.tools import Tool
from holdfast_activities.calls.rendering import Rendered, render
from holdfast_activities.redaction import Redactor
from holdfast_workers.known_secrets import redactor_of
from holdfast_workers.settings import ModelSettings, Settings

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----"
CREDENTIALS = {
    "aws-access-key": "AKIAIOSFODNN7EXAMPLE",
    "github-token": "ghp_" + "a1" * 18,
    "json-web-token": JWT,
    "private-key": PEM,
    "anthropic-key": "sk-ant-api03-" + "x" * 40,
    "openai-token": "sk-proj-" + "a" * 30 + "T3BlbkFJ" + "b" * 20,
    "slack-token": "xoxb-123456789012-abcdefabcdef",
    "stripe-access-key": "sk_" + "live_" + "a1" * 12,
    "sendgrid-api-key": "SG." + "a" * 22 + "." + "b" * 43,
    "npm-token": "npm_" + "a" * 36,
}
KNOWN = Redactor({"DESK_TOKEN": 'pass"word/1', "PIN": "12345"})
SLOW_ONCE = (
    *("eyJ" * 70_000, "eyJ=" * 50_000, "eyJ.eyJ." * 20_000, "sk-" * 60_000, "-sk-" * 60_000, "sk-ant-" * 30_000),
    *("//" * 50_000 + "/:_authToken=", "://a:" * 40_000, "aws='" * 40_000, "xoxb-" + "1-" * 100_000),
    *("-----BEGIN RSA PRIVATE KEY-----" * 5_000, "glpat-" * 30_000, "a" * 200_000),
)


@pytest.mark.parametrize("kind", CREDENTIALS)
def test_a_credential_is_cut_out_whole_and_what_stands_around_it_stays(kind: str) -> None:
    redacted = KNOWN.redact({"said": f"use {CREDENTIALS[kind]}, then go"})

    assert redacted.value == {"said": f"use [redacted: {kind}], then go"}
    assert redacted.cut == {kind: 1}


def test_a_password_in_a_url_and_a_key_beside_its_name_are_cut_out() -> None:
    redacted = KNOWN.redact(
        {"dsn": "postgres://ana:hunter2@db/x", "aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
    )

    assert redacted.value == {
        "dsn": "postgres://ana:[redacted: basic-auth-credentials]@db/x",
        "aws_secret_access_key": "[redacted: aws-access-key]",
    }


@pytest.mark.parametrize(
    "form", ['pass"word/1', "pass%22word%2F1", base64.b64encode(b'pass"word/1').decode(), 'pass\\"word/1']
)
def test_a_known_secret_is_cut_out_in_every_form(form: str) -> None:
    assert KNOWN.redact([f"<{form}>", {form: 1}]).value == [
        "<[redacted: DESK_TOKEN]>",
        {"[redacted: DESK_TOKEN]": 1},
    ]


@pytest.mark.parametrize(
    "ordinary",
    [
        "ch_3MmlLrLkdIwHu7ix0snN0B15",
        "0198a7c2-7e1f-7cc0-8f6e-3a2b1c0d9e8f",
        "3f786850e387550fdab836ed7e6dc881de23001b",
        "order 12345 of password reset, key: value",
        "https://example.com/a:b@c",
    ],
)
def test_what_an_ordinary_result_holds_stays(ordinary: str) -> None:
    assert KNOWN.redact({"it": ordinary}).value == {"it": ordinary}


def test_detection_can_be_turned_off_and_known_secrets_are_cut_out_all_the_same() -> None:
    plain = Redactor({"DESK_TOKEN": "correct-horse"}, detect=False)

    assert plain.text(f"correct-horse {PEM}") == f"[redacted: DESK_TOKEN] {PEM}"


def test_no_text_can_hold_a_worker_up() -> None:
    began = time.process_time()
    for text in SLOW_ONCE:
        KNOWN.text(text)

    assert time.process_time() - began < 10  # the patterns alone take minutes


@tool
def peek() -> dict[str, str]:
    """Peek."""
    return {}


def rendered(value: Any) -> Rendered:
    assert isinstance(peek, Tool)
    return render(peek, value, call="1.1", cap=1000, redactor=KNOWN)


def test_a_result_is_kept_shown_and_digested_without_its_secret() -> None:
    kept, clean = rendered({"key": PEM}), rendered({"key": "[redacted: private-key]"})

    assert (kept.result, kept.shown, kept.digest, kept.value) == (
        clean.result,
        clean.shown,
        clean.digest,
        clean.value,
    )
    assert kept.evidence == {"redacted": {"private-key": 1}}
    assert clean.evidence == {}


def test_binary_data_with_a_secret_in_it_is_not_kept() -> None:
    kept = rendered(b"\x00\xff" + PEM.encode())

    assert kept.value is None
    assert "with a secret" in str(kept.mark)


def test_a_worker_knows_what_it_connects_with(tmp_path: Any) -> None:
    config = Config.model_validate({"secrets": {"allow": ["DESK"], "redact": ["OTHER", "UNSET"]}})
    settings = Settings(
        home=tmp_path,
        dsn="postgresql://app:a-long-password@db/x",
        model=ModelSettings(api_key="model-key-1"),
    )

    redactor = redactor_of(config, settings, {"DESK": "desk-secret", "OTHER": "other-secret"})

    said = "desk-secret other-secret a-long-password model-key-1"
    assert redactor.text(said) == " ".join(
        f"[redacted: {name}]" for name in ("DESK", "OTHER", "HOLDFAST_DSN", "ANTHROPIC_API_KEY")
    )
