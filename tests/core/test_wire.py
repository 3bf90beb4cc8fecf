"""What one version of Holdfast writes, another one reads: workers are replaced, and rolled back, one by one."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from holdfast.budget import Limits
from holdfast.catalogue import AgentSpec, Catalogue, ToolChoice
from holdfast.contracts import SessionPlan
from holdfast.policy import Policy, RolePolicy

POLICY = Policy(ask=("pay",), roles={"clerk": RolePolicy(tools=("look",))})
PLAN = SessionPlan(catalogue="c" * 64, limits=Limits(turns=3), policy=POLICY)
CATALOGUE = Catalogue(agent=AgentSpec(tool_choice=ToolChoice(type="none"), policy=POLICY))


def newer(value: Any) -> Any:
    """The same as a later version would write it: every model has a field nobody here knows."""
    if isinstance(value, BaseModel):
        known = {name: newer(getattr(value, name)) for name in type(value).model_fields}
        return {**known, "of_a_later_version": 1}
    if isinstance(value, Mapping):
        return {name: newer(each) for name, each in value.items()}
    return [newer(each) for each in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("written", [PLAN, CATALOGUE])
def test_what_a_newer_worker_wrote_is_read_by_one_that_was_rolled_back(written: BaseModel) -> None:
    assert type(written).model_validate(newer(written)) == written


@pytest.mark.parametrize("declared", [AgentSpec(), Limits(), Policy()])
def test_an_open_session_keeps_the_defaults_it_was_opened_with(declared: BaseModel) -> None:
    assert declared.model_dump().keys() == type(declared).model_fields.keys()
