"""Verify an export of Holdfast's ledger with nothing of Holdfast: the standard library and `cryptography` alone.

    python verify_export.py session.jsonl --key checkpoint-public.pem --checkpoints kept.jsonl

An export of a session has a header, one entry a line, then the checkpoints that vouch for it. An entry carries a
SHA-256 over all of it and the hash before. A checkpoint is signed (Ed25519) over the one before it and the Merkle
root of where all chains stood. `--checkpoints` is a copy of the log that you kept: it shows what an export lacks.
Exit code 0: all of it holds. 1: the first thing that does not is printed.
"""

import argparse
import hashlib
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ENTRY = (  # the fields that are hashed after the domain, in this order
    *("prev", "seq", "fact_key", "fact_digest", "kind", "at", "recorded_at", "turn", "call", "effect_id", "token"),
    *("saga_id", "tool", "tier", "outcome", "actor", "args_digest", "latency_us", "key_id", "body"),
)
CHECKPOINT = ("number", "at", "prev", "advances", "root", "key_id")


class Wrong(Exception):
    """What does not hold."""


def prefixed(*values):
    """Each value after its length in 8 bytes; an absent one is a length that no value has."""
    data = [value if isinstance(value, bytes | None) else str(value).encode() for value in values]
    return b"".join(b"\xff" * 8 if each is None else len(each).to_bytes(8, "big") + each for each in data)


def field(line, name):
    """A field of a line as it is hashed."""
    value = line.get(name)
    if name == "body" and "body_hex" in line:  # a body that is not text
        return bytes.fromhex(line["body_hex"])
    if name in ("at", "recorded_at"):  # microseconds since 1970
        return (datetime.fromisoformat(value) - EPOCH) // timedelta(microseconds=1)
    return bytes.fromhex(value) if name in ("prev", "fact_digest", "root") else value


def statement(domain, names, line):
    """The bytes that are hashed or signed."""
    return prefixed(domain, *(field(line, name) for name in names))


def check(holds, problem):
    if not holds:
        raise Wrong(problem)


def leaf(session_id, session_key, seq, head):
    return hashlib.sha256(b"\x00" + prefixed(session_id, session_key, seq, bytes.fromhex(head))).digest()


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(level):
    while len(level) > 1:
        pairs = [node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level = pairs + level[len(level) & ~1 :]
    return level[0]


def root_by_proof(place, index, size, proof):
    siblings = iter(map(bytes.fromhex, proof))
    while size > 1:
        if index ^ 1 < size:
            sibling = next(siblings, b"")
            place = node(sibling, place) if index & 1 else node(place, sibling)
        index, size = index // 2, (size + 1) // 2
    return place


def verify_checkpoint(checkpoint, keys):
    """One checkpoint alone: what it says has its hash and its signature."""
    number, said = checkpoint["number"], statement("holdfast.checkpoint.1", CHECKPOINT, checkpoint)
    check(hashlib.sha256(said).hexdigest() == checkpoint["hash"], f"checkpoint {number} was changed")
    if keys:
        check(checkpoint["key_id"] in keys, f"checkpoint {number} is signed with key {checkpoint['key_id']}")
        try:
            keys[checkpoint["key_id"]].verify(bytes.fromhex(checkpoint["signature"]), said)
        except InvalidSignature:
            raise Wrong(f"checkpoint {number} carries a signature that its key did not make") from None


def verify_log(lines, keys):
    """The log of checkpoints; returns what it says of every chain: {(session_key, seq): head}."""
    prev, claims = "00" * 32, {}
    for number, checkpoint in enumerate(lines, start=1):
        check(checkpoint["number"] == number, f"checkpoint {number} is missing")
        check(checkpoint["prev"] == prev, f"checkpoint {number} does not follow the one before it")
        verify_checkpoint(checkpoint, keys)
        over = checkpoint["over"]
        check(len(over) == checkpoint["advances"], f"checkpoint {number} is over another number of sessions")
        root = root_of([leaf(*advance) for advance in over])
        check(root.hex() == checkpoint["root"], f"checkpoint {number} was made over other sessions")
        claims |= {(key, seq): head for _, key, seq, head in over}
        prev = checkpoint["hash"]
    return claims


def verify_session(header, lines, keys, claims):
    """A session's chain, the checkpoints beside it, and what a log that was kept says of it."""
    identity = (header["session_id"], header["session_key"])
    prev, hashes = hashlib.sha256(prefixed("holdfast.chain.1", *identity)).hexdigest(), {}
    for line in lines:
        if "checkpoint" in line:
            checkpoint, place = line["checkpoint"], leaf(*identity, line["seq"], line["head"])
            verify_checkpoint(checkpoint, keys)
            check(
                0 <= line["index"] < checkpoint["advances"], f"checkpoint {checkpoint['number']} has no such place"
            )
            root = root_by_proof(place, line["index"], checkpoint["advances"], line["proof"])
            check(root.hex() == checkpoint["root"], f"checkpoint {checkpoint['number']} does not say so")
            claims = {**claims, (identity[1], line["seq"]): line["head"]}
        elif "record" not in line:  # of an archive: effects and messages, which the archive's own digest covers
            seq = len(hashes) + 1
            check(line["seq"] == seq, f"entry {seq} is missing")
            found = hashlib.sha256(statement("holdfast.entry.1", ENTRY, line)).hexdigest()
            check(line["version"] == 1 and found == line["hash"], f"entry {seq} was changed")
            check(line["prev"] == prev, f"entry {seq} does not follow the entry before it")
            prev = hashes[seq] = line["hash"]
    check(len(hashes) == header["entries"] and prev == header["head"], f"entries after {len(hashes)} are missing")
    for (key, seq), head in claims.items():
        check(key != identity[1] or hashes.get(seq) == head, f"entry {seq} is not the one a checkpoint knows")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("export", type=Path, help="of a session, of an archive, or of checkpoints")
    parser.add_argument("--key", type=Path, action="append", default=[], help="public key, PEM; repeatable")
    parser.add_argument("--checkpoints", type=Path, help="a copy of the log that was kept elsewhere")
    options = parser.parse_args()
    public = [load_pem_public_key(file.read_bytes()) for file in options.key]
    keys = {hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]: key for key in public}
    try:
        kept = [json.loads(line) for line in options.checkpoints.open()][1:] if options.checkpoints else []
        header, *lines = map(json.loads, options.export.open())
        claims = verify_log(kept, keys)
        if header["format"] == "holdfast.checkpoints/1":
            verify_log(lines, keys)
            check(lines[: len(kept)] == kept, "this is not the log that was kept")
        else:
            verify_session(header, lines, keys, claims)
    except Wrong as wrong:
        sys.exit(f"{options.export}: {wrong}")
    except (ValueError, KeyError, TypeError) as error:
        sys.exit(f"{options.export}: cannot be read: {type(error).__name__} {error}")
    print(f"{options.export}: {len(lines)} lines hold{'' if keys else '; no --key, so no signature was verified'}")


if __name__ == "__main__":
    main()
