"""Two sessions and two checkpoints, and what people do to their record afterwards."""

from __future__ import annotations

from holdfast.states import EffectState, RecoveryClass
from holdfast_ledger.chain import Verdict
from holdfast_ledger.checkpointing import make_checkpoint
from holdfast_ledger.checkpoints import Checkpoint
from holdfast_ledger.export import export_checkpoints, read_checkpoints
from holdfast_ledger.signing import SigningKey, TrustedKeys, new_key
from holdfast_ledger.verify import verify_all, verify_checkpoints
from tests.ledger.conftest import Conversation

KEY = SigningKey.of_pem(new_key())
TRUSTED = TrustedKeys.of_pem(KEY.public_pem)
GUARDED = ("entry", "checkpoint", "checkpoint_advance", "archive")


async def tell(conversation: Conversation) -> None:
    """Two sessions with a call each, a checkpoint, one more turn of the first, a second checkpoint."""
    other = await opened(conversation, "trip-2")
    for each in (conversation, other):
        call = await each.plan(RecoveryClass.IDEMPOTENT)
        granted = await each.grant(call)
        await each.record(call, granted.token, EffectState.DONE)
    assert await checkpoint(conversation)
    await conversation.take_turn(commit_saga=True)
    assert await checkpoint(conversation)


async def opened(conversation: Conversation, session_id: str) -> Conversation:
    """One more session, without a turn."""
    other = Conversation(ledger=conversation.ledger, owner=conversation.owner, session_id=session_id)
    await other.open()
    return other


async def checkpoint(conversation: Conversation, key: SigningKey = KEY) -> Checkpoint | None:
    return await make_checkpoint(conversation.ledger.database, key, wait=True)


async def log_of(conversation: Conversation) -> list[str]:
    return [line async for line in export_checkpoints(conversation.ledger.database)]


async def verdicts(conversation: Conversation, **options: int) -> dict[str, Verdict]:
    return {each.session_id: each async for each in verify_all(conversation.ledger.database, **options)}


async def log_verdict(conversation: Conversation, held: list[str] | None = None) -> Verdict:
    kept = [each for each, _ in read_checkpoints(held)] if held else []
    return await verify_checkpoints(conversation.ledger.database, TRUSTED, held=kept)


async def tamper(conversation: Conversation, *statements: str) -> None:
    """As a superuser who first switches every guard off."""
    for table in GUARDED:
        await conversation.owner.execute(f"ALTER TABLE holdfast.{table} DISABLE TRIGGER ALL")
    await conversation.owner.execute("SET session_replication_role = replica")
    for statement in statements:
        await conversation.owner.execute(statement)
    await conversation.owner.execute("RESET session_replication_role")


def rewrite(where: str, change: str) -> tuple[str, ...]:
    """A session's entries changed, and every hash after it made to fit, head and all."""
    return (
        f"UPDATE holdfast.entry SET {change} WHERE {where}",
        """DO $$ DECLARE e holdfast.entry; before bytea; BEGIN
            FOR e IN SELECT o.* FROM holdfast.entry o JOIN holdfast.session s USING (session_key)
                WHERE s.id = 'trip-1' ORDER BY o.seq LOOP
                IF e.seq > 1 THEN e.prev := before; END IF;
                before := holdfast.entry_hash(e);
                UPDATE holdfast.entry SET prev = e.prev, hash = before
                WHERE session_key = e.session_key AND seq = e.seq;
                UPDATE holdfast.chain SET head = before, seq = e.seq WHERE session_key = e.session_key;
            END LOOP; END $$""",
    )
