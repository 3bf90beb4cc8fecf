"""Which master keys this process has: from the environment, a file, or a KMS of the user's."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from holdfast.errors import HoldfastError
from holdfast.wire import Strict

if TYPE_CHECKING:
    from holdfast_ledger.master_keys import KeyService

KEYS, KEYS_FILE, KMS = "HOLDFAST_MASTER_KEYS", "HOLDFAST_MASTER_KEYS_FILE", "HOLDFAST_KMS"
SERVICE = ("newest", "wrap", "unwrap")


class KeysError(HoldfastError):
    """The master keys cannot be used."""

    code = "invalid"


class KeySettings(Strict):
    """Where master keys come from; at most one of the three."""

    keys: str | None = Field(default=None, repr=False)
    """`ID:BASE64` of 32 bytes, several separated by commas, the newest first."""
    file: Path | None = None
    """The same, one a line."""
    kms: str | None = None
    """`module:attribute` that makes a `holdfast_ledger.master_keys.KeyService`."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> KeySettings:
        file = environ.get(KEYS_FILE)
        return cls(
            keys=environ.get(KEYS) or None,
            file=Path(file).expanduser() if file else None,
            kms=environ.get(KMS) or None,
        )

    @property
    def configured(self) -> bool:
        return bool(self.keys or self.file or self.kms)

    def open(self) -> KeyService | None:
        """None where nothing is configured. Raises `KeysError`, `BadMasterKey`."""
        given = [name for name, value in ((KEYS, self.keys), (KEYS_FILE, self.file), (KMS, self.kms)) if value]
        if len(given) > 1:
            raise KeysError(f"Set one of {' and '.join(given)}: nobody could say which key is the newest.")
        if self.kms:
            return _loaded(self.kms)
        if not given:
            return None
        from holdfast_ledger.master_keys import MasterKeys

        if self.keys:
            return MasterKeys.parse(self.keys, source=KEYS)
        assert self.file is not None
        try:
            text = self.file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise KeysError(f"{KEYS_FILE}: `{self.file}` cannot be read ({type(error).__name__}).") from error
        return MasterKeys.parse(text, source=str(self.file))


def _loaded(reference: str) -> KeyService:
    try:
        made: KeyService = pkgutil.resolve_name(reference)()
    except Exception as error:  # the user's module: whatever it raises, it is not there
        raise KeysError(
            f"{KMS}: `{reference}` cannot be loaded ({type(error).__name__}); name a function that takes nothing "
            'and returns a key service, as "module:function".'
        ) from error
    missing = [name for name in SERVICE if not hasattr(made, name)]
    if missing:
        raise KeysError(f"{KMS}: what `{reference}` makes has no {', '.join(f'`{each}`' for each in missing)}.")
    return made
