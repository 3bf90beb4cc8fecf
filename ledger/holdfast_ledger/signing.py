"""Keys of checkpoints: Ed25519, as PEM. The private one is in a worker's settings, never in the database.

`cryptography` is imported where a key is used: most commands use none.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

from holdfast_ledger.errors import BadKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.+?-----END [A-Z ]+-----", re.DOTALL)


def new_key() -> str:
    """A new private key as PEM, for a file that its owner alone may read."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return (
        Ed25519PrivateKey.generate()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


class SigningKey:
    """The private key of the one who writes checkpoints."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.key_id = key_id(private.public_key())

    @classmethod
    def of_pem(cls, pem: str) -> Self:
        """Raises `BadKey`, whose message shows nothing of the text."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            private = load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            private = None
        if not isinstance(private, Ed25519PrivateKey):
            raise BadKey("The key for checkpoints must be an Ed25519 private key as unencrypted PEM.") from None
        return cls(private)

    @property
    def public_pem(self) -> str:
        """What an auditor needs to verify."""
        from cryptography.hazmat.primitives import serialization

        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._private.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    def sign(self, statement: bytes) -> bytes:
        return self._private.sign(statement)


class TrustedKeys:
    """The public keys that checkpoints may be signed with; without any, no signature is looked at."""

    def __init__(self, public: Iterable[Ed25519PublicKey] = ()) -> None:
        self._by_id = {key_id(key): key for key in public}

    @classmethod
    def of_pem(cls, *texts: str) -> Self:
        """Every key of the texts, public or private; an older key stays beside a newer one. Raises `BadKey`."""
        return cls([_public(pem) for text in texts for pem in _PEM.findall(text) or [text]])

    def __bool__(self) -> bool:
        return bool(self._by_id)

    def problem(self, signer: str, statement: bytes, signature: bytes) -> str | None:
        """What is wrong with the signature, as the end of a sentence; None where nothing is."""
        from cryptography.exceptions import InvalidSignature

        if not self._by_id:
            return None
        if (key := self._by_id.get(signer)) is None:
            return f"is signed with key {signer}, which is none of those trusted ({', '.join(self._by_id)})"
        try:
            key.verify(signature, statement)
        except InvalidSignature:
            return f"carries a signature that key {signer} did not make for it"
        return None


def key_id(public: Ed25519PublicKey) -> str:
    """The first 16 hex digits of the SHA-256 of the raw public key."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def _public(pem: str) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if "PRIVATE KEY" in pem:
        return _public(SigningKey.of_pem(pem).public_pem)
    try:
        found = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, Ed25519PublicKey):
        raise BadKey("A key to verify checkpoints with must be an Ed25519 public key as PEM.") from None
    return found
