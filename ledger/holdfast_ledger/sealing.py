"""What a session's data key does: seal bodies, open them, and give facts a digest that nobody can guess.

A sealed body says so itself, since no JSON and no UTF-8 text begins with 0xFF:

    0xFF "HF" 0x01 | key id, 8 | digest of the plaintext, keyed, 32 | nonce, 12 | AES-256-GCM ciphertext and tag

One that begins 0xFF "HF" 0x02 has a part between nonce and ciphertext, after its length in 4 bytes, that anyone may
read: what of an entry is no content, so that an auditor needs no key to see who allowed what.

What is authenticated with it names the session and the place, so that a body moved to another row does not open.
Postgres reads the key id and the digest (schema/0002_chain.sql), and the open part (schema/0006_audit.sql); it has
no key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from holdfast_ledger.errors import ContentAltered, ContentErased, KeyMissing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MARK = b"\xffHF\x01"
PART_OPEN_MARK = b"\xffHF\x02"
TEXT_MARK = "sealed.1:"
"""Before a sealed text: clear columns hold text, so there the body stands in base64."""
KEY_BYTES = 32
ID_BYTES = 8
NONCE_BYTES = 12
_DIGEST_AT = len(MARK) + ID_BYTES
_NONCE_AT = _DIGEST_AT + hashlib.sha256().digest_size
_TEXT_AT = _NONCE_AT + NONCE_BYTES
_LENGTH_BYTES = 4

UNREADABLE = "[encrypted]"
ALTERED = "[altered]"


class Seal(Protocol):
    """How one session's contents are stored. `place` names the row and column that a body stands in."""

    @property
    def key_id(self) -> str | None:
        """None: in clear."""

    def digest(self, said: bytes) -> bytes:
        """What makes two facts the same, 32 bytes."""

    def seal(self, place: str, body: bytes, *, digest: bytes | None = None, public: bytes = b"") -> bytes:
        """The body as it is stored; `digest` stands for the body's own, `public` is what anyone may read of it."""

    def open(self, place: str, body: bytes) -> bytes:
        """Raises `KeyMissing`, `ContentErased`, `ContentAltered`."""

    def seal_text(self, place: str, text: str) -> str:
        """For a text column."""

    def open_text(self, place: str, text: str) -> str:
        """Never raises: what cannot be opened says why instead."""


def notice(at: datetime, by: str) -> str:
    """What stands instead of erased contents."""
    return f"erased on {at:%Y-%m-%d %H:%M} UTC by {by}"


def is_sealed(body: bytes) -> bool:
    return body.startswith((MARK, PART_OPEN_MARK))


def is_sealed_text(text: str) -> bool:
    return text.startswith(TEXT_MARK)


def _text_at(body: bytes) -> int:
    """Where the ciphertext of a sealed body begins."""
    if body.startswith(MARK):
        return _TEXT_AT
    part_at = _TEXT_AT + _LENGTH_BYTES
    return part_at + int.from_bytes(body[_TEXT_AT:part_at], "big")


class Clear:
    """A session whose contents are stored as they are, and any session to a process without master keys."""

    key_id = None

    def digest(self, said: bytes) -> bytes:
        return hashlib.sha256(said).digest()

    def seal(self, place: str, body: bytes, *, digest: bytes | None = None, public: bytes = b"") -> bytes:
        return body

    def open(self, place: str, body: bytes) -> bytes:
        if is_sealed(body):
            raise KeyMissing
        return body

    def seal_text(self, place: str, text: str) -> str:
        return text

    def open_text(self, place: str, text: str) -> str:
        return UNREADABLE if is_sealed_text(text) else text


CLEAR = Clear()


@dataclass(frozen=True, kw_only=True)
class Erased:
    """A session whose key was destroyed: what was sealed with it is gone for everybody."""

    key_id: str
    at: datetime
    by: str

    @property
    def notice(self) -> str:
        return notice(self.at, self.by)

    def digest(self, said: bytes) -> bytes:
        raise ContentErased(f"The session's contents were {self.notice}; nothing can be added to it.")

    def seal(self, place: str, body: bytes, *, digest: bytes | None = None, public: bytes = b"") -> bytes:
        raise ContentErased(f"The session's contents were {self.notice}; nothing can be added to it.")

    def open(self, place: str, body: bytes) -> bytes:
        if is_sealed(body) or not body:
            raise ContentErased(f"This was {self.notice}.")
        return body

    def seal_text(self, place: str, text: str) -> str:
        raise ContentErased(f"The session's contents were {self.notice}; nothing can be added to it.")

    def open_text(self, place: str, text: str) -> str:
        return f"[{self.notice}]" if is_sealed_text(text) else text


@dataclass(frozen=True, kw_only=True)
class SessionKey:
    """The data key of one session. Two keys are derived from it: for bodies, and for digests."""

    session_id: str
    key_id: str
    """16 hex digits."""
    secret: bytes = field(repr=False)

    @classmethod
    def fresh(cls, session_id: str) -> SessionKey:
        return cls(session_id=session_id, key_id=secrets.token_hex(ID_BYTES), secret=secrets.token_bytes(KEY_BYTES))

    def digest(self, said: bytes) -> bytes:
        return hmac.digest(self._digest_key, said, "sha256")

    def seal(self, place: str, body: bytes, *, digest: bytes | None = None, public: bytes = b"") -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        mark, part = (
            (PART_OPEN_MARK, len(public).to_bytes(_LENGTH_BYTES, "big") + public) if public else (MARK, b"")
        )
        head = mark + bytes.fromhex(self.key_id) + (digest or self.digest(body)) + nonce + part
        return head + self._cipher.encrypt(nonce, body, self._bound(place, head))

    def open(self, place: str, body: bytes) -> bytes:
        """A body in clear is refused too: in a session with a key nobody but an intruder writes one."""
        from cryptography.exceptions import InvalidTag

        if not is_sealed(body) or body[len(MARK) : _DIGEST_AT].hex() != self.key_id:
            raise ContentAltered(f"The content of {place} is not sealed with the key of its session.")
        text_at = _text_at(body)
        head, nonce = body[:text_at], body[_NONCE_AT:_TEXT_AT]
        try:
            return self._cipher.decrypt(nonce, body[text_at:], self._bound(place, head))
        except InvalidTag as error:
            raise ContentAltered(f"The content of {place} was altered, or moved there.") from error

    def seal_text(self, place: str, text: str) -> str:
        sealed = self.seal(place, text.encode("utf-8", "surrogatepass"))
        return TEXT_MARK + base64.b64encode(sealed).decode("ascii")

    def open_text(self, place: str, text: str) -> str:
        """Text in clear passes: the ledger's own functions write their words beside those of people."""
        if not is_sealed_text(text):
            return text
        try:
            sealed = base64.b64decode(text.removeprefix(TEXT_MARK), validate=True)
            return self.open(place, sealed).decode("utf-8", "surrogatepass")
        except (binascii.Error, ContentAltered):
            return ALTERED

    def _bound(self, place: str, head: bytes) -> bytes:
        parts = (b"holdfast.sealed.1", self.session_id.encode(), place.encode(), head)
        return b"".join(len(part).to_bytes(8, "big") + part for part in parts)

    @cached_property
    def _cipher(self) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._derived(b"holdfast.bodies.1"))

    @cached_property
    def _digest_key(self) -> bytes:
        return self._derived(b"holdfast.digests.1")

    def _derived(self, use: bytes) -> bytes:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=use).derive(self.secret)
