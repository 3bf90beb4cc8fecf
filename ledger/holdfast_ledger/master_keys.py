"""Master keys: they wrap the data keys of sessions, and never touch a body.

A key service is anything with `newest`, `wrap` and `unwrap`: the keys below, held in this process, or a KMS. It is
asked once when a session begins, and once by each process that reads or writes it.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from holdfast.errors import HoldfastError
from holdfast_ledger.errors import ContentAltered, KeyMissing
from holdfast_ledger.sealing import KEY_BYTES, NONCE_BYTES

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
GENERATE = "python3 -c 'import base64, os; print(base64.b64encode(os.urandom(32)).decode())'"


class BadMasterKey(HoldfastError):
    """A master key cannot be used."""

    code = "invalid"


class KeyService(Protocol):
    """Wraps and unwraps 32-byte data keys. `context` must come back unchanged: bind it where the service can."""

    @property
    def newest(self) -> str:
        """Id of the master key that `wrap` uses."""

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        """The key under the newest master key."""

    async def unwrap(self, wrapped: bytes, master_id: str, context: bytes) -> bytes:
        """Raises `KeyMissing` where it does not have that master key."""


@dataclass(frozen=True, kw_only=True)
class MasterKeys:
    """AES-256-GCM keys held in this process, by id."""

    newest: str
    keys: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def parse(cls, text: str, *, source: str) -> MasterKeys:
        """Read `ID:BASE64`, separated by commas or line ends, the newest first; `#` begins a comment line.

        Raises `BadMasterKey`, naming `source` and the entry, and never a key.
        """
        keys: dict[str, bytes] = {}
        lines = [line.strip() for line in text.splitlines() if not line.lstrip().startswith("#")]
        for number, entry in enumerate((each.strip() for line in lines for each in line.split(",")), start=1):
            if not entry:
                continue
            master_id, _, encoded = entry.partition(":")
            if _ID.fullmatch(master_id) is None or not encoded:
                raise BadMasterKey(f"{source}: entry {number} is not `ID:BASE64`.")
            if master_id in keys:
                raise BadMasterKey(f"{source}: the id `{master_id}` is there twice.")
            keys[master_id] = _decoded(encoded, f"{source}: the key `{master_id}`")
        if not keys:
            raise BadMasterKey(f"{source} holds no key; make one with `{GENERATE}`.")
        return cls(newest=next(iter(keys)), keys=keys)

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + AESGCM(self.keys[self.newest]).encrypt(nonce, key, context)

    async def unwrap(self, wrapped: bytes, master_id: str, context: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        master = self.keys.get(master_id)
        if master is None:
            raise KeyMissing(
                f"A session's key is wrapped by the master key `{master_id}`, which this process does not have; "
                f"it has {', '.join(f'`{each}`' for each in self.keys)}."
            )
        try:
            return AESGCM(master).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context)
        except InvalidTag as error:
            raise ContentAltered(
                f"A session's key does not open with the master key `{master_id}`: that id stands for another key "
                "here, or the wrapped key was altered."
            ) from error


def _decoded(encoded: str, what: str) -> bytes:
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise BadMasterKey(f"{what} is no base64.") from error
    if len(key) != KEY_BYTES:
        raise BadMasterKey(f"{what} has {len(key)} bytes, not {KEY_BYTES}; make one with `{GENERATE}`.")
    return key
