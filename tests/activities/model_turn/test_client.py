"""Clients built from settings."""

import pytest

from holdfast_activities.messages_api import client as clients
from holdfast_activities.messages_api.client import ModelSettings, ModelSettingsInvalid, open_client


async def test_settings_follow_the_sdks_own_variables():
    settings = ModelSettings.from_env({"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "http://here", "OTHER": "x"})
    client = open_client(settings)
    assert (client.api_key, str(client.base_url), client.max_retries) == ("k", "http://here", 0)


def test_an_empty_variable_counts_as_unset():
    assert ModelSettings.from_env({"ANTHROPIC_API_KEY": ""}) == ModelSettings()


def test_secrets_do_not_show():
    settings = ModelSettings(api_key="sk-1", auth_token="sk-2", headers={"x-key": "sk-3"})
    assert "sk-" not in f"{settings!r} {settings}"


def test_a_gateway_needs_an_address():
    with pytest.raises(ModelSettingsInvalid, match="base_url"):
        open_client(ModelSettings(provider="gateway"))


async def test_a_gateway_gets_its_token_and_headers():
    settings = ModelSettings(provider="gateway", base_url="http://gw", auth_token="t", headers={"x-team": "a"})
    client = open_client(settings)
    assert (client.api_key, client.auth_token) == (None, "t")
    assert client.default_headers["x-team"] == "a"


@pytest.mark.parametrize("provider", ["bedrock", "vertex"])
def test_a_cloud_without_its_package_names_the_extra(provider, monkeypatch):
    monkeypatch.setattr(clients, "find_spec", lambda module: None)
    with pytest.raises(ModelSettingsInvalid, match=rf"pip install 'holdfast\[{provider}\]'"):
        open_client(ModelSettings(provider=provider))


def test_credentials_that_cannot_be_read_are_a_setting_to_mend(monkeypatch, tmp_path):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path))
    with pytest.raises(ModelSettingsInvalid, match="ANTHROPIC_CONFIG_DIR"):
        open_client(ModelSettings())
