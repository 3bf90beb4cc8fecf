"""Master keys as they are written down: read, or refused without being shown."""

from __future__ import annotations

import pytest

from holdfast_ledger.master_keys import BadMasterKey, MasterKeys


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("", "holds no key"),
        ("2026", "is not `ID:BASE64`"),
        ("2026:c2hvcnQ=", "has 5 bytes, not 32"),
        ("2026:###", "is no base64"),
        (f"a:{'A' * 43}=,a:{'A' * 43}=", "is there twice"),
    ],
)
def test_a_bad_master_key_is_refused_without_being_shown(given: str, problem: str) -> None:
    with pytest.raises(BadMasterKey, match=problem) as refused:
        MasterKeys.parse(given, source="HOLDFAST_MASTER_KEYS")
    assert "c2hvcnQ" not in str(refused.value)


def test_the_first_master_key_is_the_newest() -> None:
    text = f"# rotated in spring\n2026:{'A' * 43}=\n2025:{'B' * 43}=\n"

    assert MasterKeys.parse(text, source="file").newest == "2026"
