-- compatible from: 1
-- Sagas: their steps and undos are effects like any other; what moves a saga as a whole stands here.
-- Every function locks the saga first.

-- What became of a saga that was asked to move. `code` is null where it moved, or had moved so before.
CREATE TYPE holdfast.moved AS (code text, said text, state text, epoch integer);

-- Say in the saga's chain that it moved otherwise than to an end.
CREATE FUNCTION holdfast.say_saga(
    s_key uuid, of_saga text, kind text, about text, outcome text, body bytea, actor text DEFAULT NULL,
    effect_id text DEFAULT NULL
) RETURNS void
LANGUAGE sql AS $$
    SELECT holdfast.append(
        s_key, format('@saga/%s/%s', of_saga, about), sha256(body), kind, clock_timestamp(), body,
        saga_id => of_saga, outcome => outcome, actor => actor, effect_id => effect_id
    )
$$;

-- The session row of a code-defined saga follows it.
CREATE FUNCTION holdfast.show_saga(of_saga text) RETURNS void
LANGUAGE sql AS $$
    UPDATE holdfast.session s SET
        status = CASE g.state
            WHEN 'COMMITTED' THEN 'completed' WHEN 'ABORTED' THEN 'aborted'
            WHEN 'HELD' THEN 'held' WHEN 'STUCK' THEN 'held' WHEN 'FORWARD_PENDING' THEN 'held'
            WHEN 'UNWINDING' THEN 'closing' ELSE 'running'
        END,
        status_reason = g.reason, status_at = clock_timestamp(),
        ended_at = CASE WHEN g.state IN ('COMMITTED', 'ABORTED') THEN clock_timestamp() END
    FROM holdfast.saga g
    WHERE g.id = of_saga AND s.session_key = g.session_key AND s.kind = 'saga'
$$;

-- Begin to unwind, or go on: nothing of the forward side is sent from here on.
CREATE FUNCTION holdfast.set_unwinding(of_saga text, by_run text, why text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM holdfast.cancel_open_effects(of_saga);
    UPDATE holdfast.saga SET
        state = 'UNWINDING', goal = 'unwind', epoch = epoch + 1, moves = moves + 1, unwinder = by_run,
        reason = coalesce(nullif(why, ''), reason), closed_at = NULL
    WHERE id = of_saga;
    PERFORM holdfast.show_saga(of_saga);
END
$$;

-- Attempts whose lease is over and that cannot have landed: what reads, and what never committed in our own Postgres.
CREATE FUNCTION holdfast.cancel_lost_effects(of_saga text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    lost text;
BEGIN
    FOR lost IN
        SELECT effect_id FROM holdfast.effect
        WHERE saga_id = of_saga AND kind = 'call' AND state = 'CLAIMED' AND NOT doubt
          AND recovery IN ('retry', 'transactional') AND lease_until <= clock_timestamp()
        FOR UPDATE
    LOOP
        PERFORM holdfast.end_lost_attempt(lost, clock_timestamp());
        UPDATE holdfast.effect SET state = 'CANCELLED', lease_until = NULL, settled_at = clock_timestamp()
        WHERE effect_id = lost;
    END LOOP;
END
$$;

-- A doubt was settled: an unwind that was held for it goes on, once there is none left. Its chain is told by whoever
-- settled it.
CREATE FUNCTION holdfast.unwind_on(g holdfast.saga) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM holdfast.effect e WHERE e.saga_id = g.id AND e.state = 'UNKNOWN' AND e.waived IS NULL
    ) THEN
        PERFORM holdfast.set_unwinding(g.id, NULL, 'the last doubt about it was settled');
    END IF;
END
$$;

-- Whether a person may open an effect in doubt again.
CREATE FUNCTION holdfast.may_run_again(g holdfast.saga, kind text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN kind = 'undo' THEN g.state IN ('UNWINDING', 'HELD', 'STUCK')
        WHEN g.name IS NULL THEN g.state = 'OPEN'
        ELSE g.state IN ('OPEN', 'COMMITTING', 'FORWARD_PENDING') OR g.state = 'HELD' AND g.goal IS NULL
    END
$$;

-- A pivot is DONE. While the saga goes forward, or is held on its way, it is past its pivot from now on; in one that
-- is being unwound it is a step like any other.
CREATE FUNCTION holdfast.pass_pivot(s_key uuid, of_saga text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE holdfast.saga SET passed_pivot_at = clock_timestamp()
    WHERE id = of_saga AND passed_pivot_at IS NULL AND goal IS NULL
      AND state IN ('OPEN', 'COMMITTING', 'FORWARD_PENDING', 'HELD');
    IF FOUND THEN
        PERFORM holdfast.say_saga(s_key, of_saga, 'saga_moved', 'pivot', 'past_pivot', '{}');
    END IF;
END
$$;

-- Lock the saga of an effect whose record may move it: a pivot, one that was given up and may have landed late, or one
-- for whose doubt the saga is held.
CREATE FUNCTION holdfast.lock_moved_saga(of_effect text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    moved text;
BEGIN
    SELECT e.saga_id INTO moved FROM holdfast.effect e JOIN holdfast.saga g ON g.id = e.saga_id
    WHERE e.effect_id = of_effect
      AND (e.pivot OR e.state IN ('CANCELLED', 'UNKNOWN') OR g.state = 'HELD' AND e.kind = 'call');
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM FROM holdfast.saga WHERE id = moved FOR UPDATE;
    RETURN true;
END
$$;

-- An effect is DONE whose saga is locked: it passed the pivot, or it landed late, and the unwind that had ended goes on;
-- a saga that was held for the doubt about it is judged again. Where it was undone unseen, nobody knows which came first.
CREATE FUNCTION holdfast.move_saga_of(s_key uuid, of_effect text, late boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    e record;
    g holdfast.saga;
    ended boolean;
BEGIN
    SELECT saga_id, call, tool, tier, pivot INTO STRICT e FROM holdfast.effect WHERE effect_id = of_effect;
    IF e.pivot AND NOT late THEN
        PERFORM holdfast.pass_pivot(s_key, e.saga_id);
    END IF;
    SELECT * INTO STRICT g FROM holdfast.saga WHERE id = e.saga_id;
    IF e.tier = 'read' OR g.state <> 'HELD' AND NOT (late AND g.state = 'ABORTED') THEN
        RETURN;
    ELSIF EXISTS (SELECT FROM holdfast.effect u WHERE u.undo_of = of_effect AND u.state = 'DONE') THEN
        PERFORM holdfast.end_saga(g.id, 'HELD', format(
            '%s %s landed, and was undone while nobody knew whether it had: a person must look', e.call, e.tool
        ));
        PERFORM holdfast.show_saga(g.id);
        PERFORM holdfast.say_saga_closed(s_key, g.id);
    ELSIF g.state = 'HELD' THEN
        ended := holdfast.judge_again(g);
        SELECT * INTO STRICT g FROM holdfast.saga WHERE id = e.saga_id;
        IF ended THEN
            PERFORM holdfast.say_saga_closed(s_key, g.id);
        ELSIF g.state = 'UNWINDING' THEN
            PERFORM holdfast.say_unwinding(s_key, g.id, NULL);
        END IF;
    ELSE
        PERFORM holdfast.set_unwinding(g.id, NULL, format('%s %s landed late', e.call, e.tool));
        PERFORM holdfast.say_unwinding(s_key, g.id, NULL);
    END IF;
END
$$;

CREATE FUNCTION holdfast.say_unwinding(s_key uuid, of_saga text, by text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    g holdfast.saga;
BEGIN
    SELECT * INTO STRICT g FROM holdfast.saga WHERE id = of_saga;
    PERFORM holdfast.say_saga(
        s_key, of_saga, 'saga_unwinding', 'unwinding/' || g.epoch, g.state, convert_to(json_build_object(
            'by', by, 'epoch', g.epoch, 'reason', g.reason, 'unwinder', g.unwinder
        )::text, 'UTF8'), by
    );
END
$$;

-- Why a saga may not be unwound; null where it may.
CREATE FUNCTION holdfast.not_to_be_unwound(g holdfast.saga) RETURNS holdfast.moved
LANGUAGE sql STABLE AS $$
    SELECT ROW(said.code, said.text, g.state, g.epoch)::holdfast.moved
    FROM (VALUES
        (g.id IS NULL, 'missing', 'there is no such saga'),
        (g.state = 'COMMITTED', 'committed', format('saga %s is committed: what it did is kept', g.id)),
        (g.state = 'ABORTED', 'aborted', format('saga %s is aborted: nothing of it stands', g.id)),
        (g.passed_pivot_at IS NOT NULL, 'pivot', format(
            'saga %s is past its pivot since %s UTC: it can only go forward', g.id,
            to_char(g.passed_pivot_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
        ))
    ) AS said (holds, code, text)
    WHERE said.holds LIMIT 1
$$;

-- The first transaction of an unwind. The run that began last holds the saga; with an epoch it only looks whether it
-- still does.
CREATE FUNCTION holdfast.begin_unwind(p jsonb) RETURNS SETOF holdfast.moved
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    s_key uuid;
    g holdfast.saga;
    m holdfast.moved;
    begins boolean;
BEGIN
    SELECT session_key INTO s_key FROM holdfast.session WHERE id = p->>'session_id';
    SELECT * INTO g FROM holdfast.saga WHERE id = p->>'saga_id' AND session_key = s_key FOR UPDATE;
    m := holdfast.not_to_be_unwound(g);
    IF m.code IS NULL AND p->>'epoch' IS NOT NULL AND (
        g.state <> 'UNWINDING' OR g.epoch <> (p->>'epoch')::integer OR g.unwinder IS DISTINCT FROM p->>'unwinder'
    ) THEN
        m := ROW('taken', format(
            'saga %s is %s in epoch %s, and this unwind began epoch %s', g.id, g.state, g.epoch, p->>'epoch'
        ), g.state, g.epoch)::holdfast.moved;
    END IF;
    IF m.code IS NOT NULL THEN
        RETURN NEXT m;
        RETURN;
    END IF;
    begins := g.state <> 'UNWINDING' OR g.unwinder IS DISTINCT FROM p->>'unwinder';
    IF begins THEN
        PERFORM holdfast.set_unwinding(g.id, p->>'unwinder', p->>'reason');
    END IF;
    PERFORM holdfast.cancel_lost_effects(g.id);
    IF begins THEN
        PERFORM holdfast.say_unwinding(s_key, g.id, nullif(p->>'by', ''));
    END IF;
    RETURN QUERY SELECT NULL::text, NULL::text, o.state, o.epoch FROM holdfast.saga o WHERE o.id = g.id;
END
$$;

-- Effects above tier read that stand or may stand, or run: none of them, and a saga is undone.
CREATE FUNCTION holdfast.stands(of_saga text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM holdfast.effect e
        WHERE e.saga_id = of_saga AND e.kind = 'call' AND e.tier <> 'read'
          AND (
              e.state = 'CLAIMED'
              OR e.waived IS NULL AND (e.state IN ('UNKNOWN', 'DONE') OR e.state = 'OPEN' AND e.doubt)
                 AND NOT EXISTS (
                     SELECT FROM holdfast.effect u WHERE u.undo_of = e.effect_id AND u.state = 'DONE'
                 )
          )
    )
$$;

-- The end of an unwind, by the run that holds the saga. Not ABORTED while anything stands: then it goes on UNWINDING.
CREATE FUNCTION holdfast.end_unwind(p jsonb) RETURNS SETOF holdfast.moved
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    s_key uuid := holdfast.key_of(p->>'session_id');
    g holdfast.saga;
    wanted text := p->>'state';
BEGIN
    SELECT * INTO g FROM holdfast.saga WHERE id = p->>'saga_id' AND session_key = s_key FOR UPDATE;
    IF g.state = 'UNWINDING' AND g.epoch = (p->>'epoch')::integer AND wanted IN ('ABORTED', 'HELD', 'STUCK')
        AND NOT (wanted = 'ABORTED' AND holdfast.stands(g.id))
    THEN
        PERFORM holdfast.cancel_open_effects(g.id);
        PERFORM holdfast.end_saga(g.id, wanted, coalesce(nullif(p->>'reason', ''), g.reason));
        PERFORM holdfast.show_saga(g.id);
        PERFORM holdfast.say_saga_closed(s_key, g.id);
    END IF;
    RETURN QUERY SELECT
        CASE WHEN o.id IS NULL THEN 'missing' END, NULL::text, o.state, o.epoch
        FROM (VALUES (p->>'saga_id')) AS asked (id) LEFT JOIN holdfast.saga o ON o.id = asked.id;
END
$$;

-- Why a step is not to be undone now; null where it is. No step is undone while another may still land.
CREATE FUNCTION holdfast.not_to_be_undone(c holdfast.claim) RETURNS holdfast.verdict
LANGUAGE plpgsql AS $$
DECLARE
    f record;
    wanted text := CASE WHEN coalesce(c.unknown, false) THEN 'UNKNOWN' ELSE 'DONE' END;
    alive text;
BEGIN
    SELECT kind, state, waived, call, tool INTO f
    FROM holdfast.effect WHERE effect_id = c.undo_of AND saga_id = c.saga_id;
    IF NOT FOUND THEN
        RETURN holdfast.refused('effect_missing', format('saga %s has no step %s', c.saga_id, c.undo_of));
    ELSIF f.kind <> 'call' OR f.waived IS NOT NULL OR f.state <> wanted THEN
        RETURN holdfast.refused('not_settled', format(
            'step %s %s is %s, and not to be undone so', f.call, f.tool, coalesce(f.waived, f.state)
        ));
    END IF;
    SELECT e.call || ' ' || e.tool INTO alive FROM holdfast.effect e
    WHERE e.saga_id = c.saga_id AND e.kind = 'call' AND e.tier <> 'read'
      AND (e.state = 'CLAIMED' OR e.state = 'OPEN' AND e.doubt) LIMIT 1;
    RETURN CASE WHEN FOUND THEN holdfast.refused('not_settled', format('step %s may still land', alive)) END;
END
$$;

-- An undo that is to be tried in another way than before: by the step's own undo, where it was undone unseen, or with
-- other arguments. It goes under a new key.
CREATE FUNCTION holdfast.change_undo(c holdfast.claim, version text, new_args bytea) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM holdfast.effect
    WHERE effect_id = c.effect_id AND kind = 'undo' AND fingerprint <> c.fingerprint
      AND (state = 'OPEN' OR state = 'CLAIMED' AND lease_until <= clock_timestamp()) FOR UPDATE;
    IF FOUND THEN
        PERFORM holdfast.end_lost_attempt(c.effect_id, clock_timestamp());
        UPDATE holdfast.effect SET
            state = 'OPEN', lease_until = NULL, doubt = false, attempts_used = 0, first_claimed_at = NULL,
            keys_refused = keys_refused + 1, tool = c.tool, tool_version = version, recovery = c.recovery,
            fingerprint = c.fingerprint, args = new_args
        WHERE effect_id = c.effect_id;
    END IF;
END
$$;

-- Claim a step or an undo whose row may be missing: it is made in the same transaction.
CREATE FUNCTION holdfast.claim_planned(
    p jsonb, p_intent bytea, p_unknown bytea, p_exhausted bytea, p_facts jsonb, p_digests bytea[], p_bodies bytea[],
    p_args bytea, p_salt bytea
) RETURNS SETOF holdfast.verdict
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    c holdfast.claim := jsonb_populate_record(NULL::holdfast.claim, p);
    v holdfast.verdict;
    g record;
BEGIN
    SELECT o.session_key, o.state, o.epoch INTO g FROM holdfast.saga o JOIN holdfast.session s USING (session_key)
    WHERE o.id = c.saga_id AND s.id = c.session_id FOR SHARE OF o;
    IF c.kind = 'undo' THEN
        v := holdfast.closed_saga(c, g.state, g.epoch, false);
        IF v.verdict IS NULL THEN
            PERFORM holdfast.change_undo(c, p->>'tool_version', p_args);
        ELSIF NOT EXISTS (SELECT FROM holdfast.effect WHERE effect_id = c.effect_id) THEN
            RETURN NEXT v;
            RETURN;
        END IF;
    END IF;
    INSERT INTO holdfast.effect (
        effect_id, session_key, kind, turn, call, tool, tool_version, tier, recovery, fingerprint, preview, saga_id,
        semantic_key, undo_of, pivot, args, args_salt
    )
    SELECT
        c.effect_id, g.session_key, c.kind, c.turn, c.call, c.tool, p->>'tool_version', c.tier, c.recovery,
        c.fingerprint, p->>'preview', c.saga_id, holdfast.salted_key(p->>'semantic_key'), c.undo_of,
        coalesce((p->>'pivot')::boolean, false), p_args, p_salt
    WHERE g.session_key IS NOT NULL
    ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT * FROM holdfast.claim_effect(
        p, p_intent, p_unknown, p_exhausted, '[]', '{}', p_facts, p_digests, p_bodies
    );
END
$$;

-- Claim a step in doubt during an unwind, to find out what became of it. One that was given up as UNKNOWN is taken up
-- again where its service can still tell: it is asked, or sent the same key again. The last of `tries` ends in
-- UNKNOWN where nobody can tell.
CREATE FUNCTION holdfast.claim_to_settle(
    p jsonb, p_intent bytea, p_unknown bytea, p_exhausted bytea, p_tries integer
) RETURNS SETOF holdfast.verdict
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    c holdfast.claim := jsonb_populate_record(NULL::holdfast.claim, p);
    g record;
    e record;
    gate holdfast.verdict;
BEGIN
    SELECT state, epoch INTO g FROM holdfast.saga WHERE id = c.saga_id FOR SHARE;
    SELECT state, nonce, recovery, settle_tried, attempts_used, waived,
           clock_timestamp() <= first_claimed_at + coalesce(key_ttl, c.key_ttl) AS key_lives
    INTO e FROM holdfast.effect WHERE effect_id = c.effect_id AND saga_id = c.saga_id FOR UPDATE;
    gate := holdfast.closed_gate(c, clock_timestamp());
    IF gate.verdict IS NOT NULL THEN  -- it waits, and that is no try
        RETURN NEXT gate;
        RETURN;
    END IF;
    IF e.state = 'UNKNOWN' AND e.waived IS NULL AND g.state = 'UNWINDING' AND g.epoch = c.saga_epoch
        AND e.settle_tried < p_tries AND (e.recovery = 'probe' OR e.recovery = 'idempotent' AND e.key_lives)
    THEN
        UPDATE holdfast.effect SET state = 'OPEN', doubt = true, settled_at = NULL WHERE effect_id = c.effect_id;
    END IF;
    p := p || jsonb_build_object(
        'settles', true,
        'attempts', CASE WHEN p_tries = 0 THEN 1 WHEN e.settle_tried + 1 < p_tries THEN 0 ELSE e.attempts_used + 1 END
    );
    FOR gate IN SELECT * FROM holdfast.claim_effect(
        p, p_intent, p_unknown, p_exhausted, '[]', '{}', '[]', '{}', '{}'
    ) LOOP
        UPDATE holdfast.effect SET settle_tried = settle_tried + 1
        WHERE effect_id = c.effect_id AND gate.verdict = 'granted' AND e.nonce IS DISTINCT FROM c.nonce;
        RETURN NEXT gate;
    END LOOP;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA holdfast FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    holdfast.begin_unwind(jsonb),
    holdfast.end_unwind(jsonb),
    holdfast.claim_planned(jsonb, bytea, bytea, bytea, jsonb, bytea[], bytea[], bytea, bytea),
    holdfast.claim_to_settle(jsonb, bytea, bytea, bytea, integer)
TO holdfast_app;
