-- compatible from: 1
-- CLAIM: one attempt asks for an effect. One function, one round trip; the database's clock judges every lease.

-- What a claim says, see holdfast_ledger.records.Claim.
CREATE TYPE holdfast.claim AS (
    session_id text, effect_id text, kind text, turn integer, call text, tool text, tier text, service text,
    recovery text, key_ttl interval, fingerprint text, saga_id text, saga_epoch integer, request integer,
    attempts integer, lease interval, worker text, nonce text, parent text, first_head text, decision text,
    use_within interval, approver text, repeat_within interval, repeat_allowed boolean,
    settles boolean, undo_of text, unknown boolean
);

-- What a claim gets. `verdict` is granted, settled, busy or refused. Of a settled one, `code` says whether this
-- very claim settled it (`expired`, `exhausted`, `disabled`).
CREATE TYPE holdfast.verdict AS (
    verdict text, code text, reason text, retry_after interval, token integer, attempt integer, probe boolean,
    args bytea, state text, outcome bytea, committed boolean, keys_refused integer
);

CREATE FUNCTION holdfast.refused(code text, reason text, retry_after interval DEFAULT NULL)
RETURNS holdfast.verdict
LANGUAGE sql IMMUTABLE AS $$
    SELECT ROW('refused', code, reason, retry_after, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::holdfast.verdict
$$;

CREATE FUNCTION holdfast.busy(retry_after interval) RETURNS holdfast.verdict
LANGUAGE sql IMMUTABLE AS $$
    SELECT ROW('busy', NULL, NULL, retry_after, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::holdfast.verdict
$$;

CREATE FUNCTION holdfast.settled(of_effect text, code text DEFAULT NULL) RETURNS holdfast.verdict
LANGUAGE sql STABLE AS $$
    SELECT ROW(
        'settled', code, NULL, NULL, e.token, NULL, NULL, NULL, e.state, e.outcome, e.committed_saga, NULL
    )::holdfast.verdict
    FROM holdfast.effect e WHERE e.effect_id = of_effect
$$;

CREATE FUNCTION holdfast.granted(token integer, attempt integer, probe boolean, args bytea, keys_refused integer)
RETURNS holdfast.verdict
LANGUAGE sql IMMUTABLE AS $$
    SELECT ROW(
        'granted', NULL, NULL, NULL, token, attempt, probe, args, NULL, NULL, NULL, keys_refused
    )::holdfast.verdict
$$;

-- Append messages to the transcript. Returns why they cannot be: the head they follow, a body that a client stored by
-- digest, or the result of a call that the session has had, is not here; then Postgres is older than the session.
CREATE FUNCTION holdfast.add_messages(s_key uuid, parent text, first_head text, messages jsonb, bodies bytea[])
RETURNS text
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    absent text;
BEGIN
    IF add_messages.parent <> first_head AND NOT EXISTS (
        SELECT FROM holdfast.message o WHERE o.session_key = s_key AND o.head = add_messages.parent
    ) THEN
        RETURN format('the transcript has no head %s', add_messages.parent);
    END IF;
    INSERT INTO holdfast.content (session_key, digest, body)
    SELECT s_key, m->>'digest', bodies[n] FROM jsonb_array_elements(messages) WITH ORDINALITY AS sent (m, n)
    WHERE bodies[n] IS NOT NULL
    ON CONFLICT DO NOTHING;
    IF array_position(bodies, NULL) IS NOT NULL THEN
        SELECT m->>'digest' INTO absent FROM jsonb_array_elements(messages) AS sent (m)
        WHERE NOT EXISTS (
            SELECT FROM holdfast.content o WHERE o.session_key = s_key AND o.digest = m->>'digest'
        ) LIMIT 1;
        IF FOUND THEN
            RETURN format('the message %s was sent by digest and is not stored', absent);
        END IF;
    END IF;
    SELECT wanted INTO absent
    FROM jsonb_array_elements(messages) AS sent (m), jsonb_array_elements_text(m->'effects') AS wanted
    WHERE NOT coalesce((  -- one look by its key for each: a join goes through the table where that seems cheaper
        SELECT o.session_key = s_key AND o.state = 'DONE' FROM holdfast.effect o WHERE o.effect_id = wanted
    ), false) LIMIT 1;
    IF FOUND THEN
        RETURN format('the result of effect %s, which the session has had, is not recorded', left(absent, 12));
    END IF;
    INSERT INTO holdfast.message (session_key, head, parent, role, digest, turn, message_id)
    SELECT s_key, m->>'head', m->>'parent', m->>'role', m->>'digest', (m->>'turn')::integer, m->>'message_id'
    FROM jsonb_array_elements(messages) AS sent (m)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

-- The saga's fence: once it is closed, or in another epoch, nothing of it is sent any more. Its row is locked, and was
-- found so. While it is unwound, only what undoes a step is sent, and what finds out about a step in doubt.
CREATE FUNCTION holdfast.closed_saga(c holdfast.claim, saga_state text, saga_epoch integer, in_doubt boolean)
RETURNS holdfast.verdict
LANGUAGE plpgsql AS $$
DECLARE
    unwinds boolean := c.kind = 'undo' OR coalesce(c.settles, false) AND in_doubt;
BEGIN
    IF saga_state = 'UNWINDING' AND in_doubt AND NOT unwinds THEN
        RETURN holdfast.refused('unwinding', format(
            'saga %s is being undone, and whoever does that finds out what became of it', c.saga_id
        ));
    ELSIF saga_state IS NULL OR saga_state <> ALL (CASE
        WHEN unwinds THEN ARRAY['UNWINDING']
        WHEN c.kind = 'model' THEN ARRAY['OPEN']
        ELSE ARRAY['OPEN', 'COMMITTING', 'FORWARD_PENDING']
    END) THEN
        RETURN holdfast.refused('saga_closed', format('saga %s is %s', c.saga_id, coalesce(saga_state, 'missing')));
    ELSIF saga_epoch <> c.saga_epoch THEN
        RETURN holdfast.refused('epoch', format(
            'saga %s is in epoch %s, and the claim says %s', c.saga_id, saga_epoch, c.saga_epoch
        ));
    ELSIF c.kind = 'undo' THEN
        RETURN holdfast.not_to_be_undone(c);
    END IF;
    RETURN NULL;
END
$$;

-- The attempt that has not reported lost the effect: by its lease, or to a newer attempt. A model's answer that was
-- lost with it may have been billed.
CREATE FUNCTION holdfast.end_lost_attempt(of_effect text, now timestamptz) RETURNS void
LANGUAGE sql AS $$
    WITH lost AS (
        UPDATE holdfast.attempt a
        SET state = CASE WHEN e.lease_until > now THEN 'SUPERSEDED' ELSE 'EXPIRED' END, ended_at = now,
            cost_unknown = e.kind = 'model'
        FROM holdfast.effect e
        WHERE e.effect_id = of_effect AND e.state = 'CLAIMED' AND a.effect_id = of_effect AND a.token = e.token
        RETURNING e.session_key, a.cost_unknown
    )
    UPDATE holdfast.session s SET lost_attempts = lost_attempts + 1
    FROM lost WHERE lost.cost_unknown AND s.session_key = lost.session_key
$$;

-- End an effect without a report of its last attempt.
CREATE FUNCTION holdfast.give_up(s_key uuid, c holdfast.claim, new_state text, new_outcome bytea, code text)
RETURNS holdfast.verdict
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM holdfast.end_lost_attempt(c.effect_id, clock_timestamp());
    UPDATE holdfast.effect e
    SET state = new_state, lease_until = NULL, outcome = new_outcome, settled_at = clock_timestamp(),
        settled_order = coalesce(settled_order, nextval('holdfast.settled_order'))
    WHERE e.effect_id = c.effect_id;
    UPDATE holdfast.session s SET calls = calls + 1 WHERE s.session_key = s_key AND c.kind = 'call';
    RETURN holdfast.settled(c.effect_id, code);
END
$$;

-- Decide a claim, with its saga's row locked, and found so. Changes rows, appends nothing. p_unknown and p_exhausted
-- are the outcomes to settle with where the last attempt may have landed, and where the attempt budget is used up.
CREATE FUNCTION holdfast.decide_claim(
    s_key uuid, c holdfast.claim, saga_state text, saga_epoch integer, p_intent bytea, p_unknown bytea,
    p_exhausted bytea
) RETURNS holdfast.verdict
LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
    e record;
    v holdfast.verdict;
    exhausted boolean;
    in_doubt boolean;
    settles boolean := coalesce(c.settles, false);
BEGIN
    -- By its key alone, here and in the records: asked for the session as well, Postgres goes through all that the
    -- session has as long as it has no statistics.
    SELECT session_key, fingerprint, state, token, nonce, lease_until, recovery, key_ttl, first_claimed_at,
           attempts_used, doubt, outcome, args, keys_refused, semantic_key
    INTO e FROM holdfast.effect WHERE effect_id = c.effect_id FOR UPDATE;
    IF e.session_key IS DISTINCT FROM s_key THEN
        RETURN holdfast.refused('effect_missing', format(
            'Postgres is older than this session: no turn it knows planned the effect %s', c.effect_id
        ));
    END IF;
    now := clock_timestamp();  -- behind the lock
    IF c.kind = 'model' AND e.state = 'OPEN' AND e.token = 0 AND holdfast.may_have_left(s_key, c) THEN
        v := holdfast.left_behind(s_key, c);
        IF v.verdict IS NOT NULL THEN
            RETURN v;
        END IF;
        SELECT state INTO e.state FROM holdfast.effect WHERE effect_id = c.effect_id;
    END IF;
    IF e.fingerprint <> c.fingerprint THEN
        RETURN holdfast.refused('conflict', format('the effect %s stands for other arguments', c.effect_id));
    ELSIF e.state NOT IN ('OPEN', 'CLAIMED') THEN
        RETURN holdfast.settled(c.effect_id);
    END IF;

    -- A claimed effect whose lease is over is one whose last attempt has not reported. What only reads may be sent
    -- again, and what runs inside our own transaction did not commit; anything else may have landed.
    in_doubt := e.doubt OR e.state = 'CLAIMED' AND e.recovery NOT IN ('retry', 'transactional');

    v := holdfast.closed_saga(c, saga_state, saga_epoch, in_doubt);
    IF v.verdict IS NOT NULL AND e.lease_until > now AND in_doubt THEN
        RETURN holdfast.busy(e.lease_until - now);  -- it is under way, and its record still counts
    ELSIF v.verdict IS NOT NULL AND in_doubt AND c.kind <> 'undo' AND v.code <> 'unwinding' THEN
        RETURN holdfast.give_up(s_key, c, 'UNKNOWN', p_unknown, 'expired');
    ELSIF v.verdict IS NOT NULL THEN
        RETURN v;
    END IF;

    IF e.state = 'CLAIMED' AND e.nonce = c.nonce THEN  -- granted before, and the answer was lost
        UPDATE holdfast.effect SET lease_until = now + c.lease WHERE effect_id = c.effect_id;
        v := holdfast.granted(
            e.token, e.attempts_used, e.doubt AND e.recovery = 'probe', e.args, e.keys_refused
        );
        v.code := 'again';
        RETURN v;
    END IF;
    exhausted := c.attempts > 0 AND e.attempts_used >= c.attempts;
    IF e.lease_until > now AND (e.recovery <> 'retry' OR exhausted) THEN
        RETURN holdfast.busy(e.lease_until - now);
    END IF;
    IF in_doubt AND (
        -- After a person's "try again" none is used; an unwind that looks for the truth is not meant by it.
        e.recovery = 'operator' AND (e.attempts_used > 0 OR coalesce(c.settles, false))
        OR e.recovery = 'idempotent' AND now > e.first_claimed_at + coalesce(e.key_ttl, c.key_ttl)
    ) THEN
        RETURN holdfast.give_up(s_key, c, 'UNKNOWN', p_unknown, 'expired');
    ELSIF exhausted AND in_doubt THEN
        RETURN holdfast.give_up(s_key, c, 'UNKNOWN', p_unknown, 'exhausted');
    ELSIF exhausted THEN
        RETURN holdfast.give_up(
            s_key, c, 'FAILED', CASE c.kind WHEN 'model' THEN p_exhausted ELSE coalesce(e.outcome, p_exhausted) END,
            'exhausted'
        );
    END IF;

    IF c.decision IS NOT NULL OR e.semantic_key IS NOT NULL OR holdfast.may_be_stopped(s_key, c) THEN
        v := holdfast.stopped(s_key, c, e.semantic_key, in_doubt, now);
    END IF;
    IF c.kind = 'model' AND v.verdict IS NOT NULL THEN
        RETURN v;
    ELSIF c.kind = 'call' AND NOT settles AND v.code = 'disabled' AND in_doubt THEN
        RETURN holdfast.give_up(s_key, c, 'UNKNOWN', p_unknown, 'disabled');
    ELSIF v.verdict IS NOT NULL AND in_doubt THEN
        -- It was sent before, so nobody may say that it was not run: it waits until it may be claimed.
        RETURN holdfast.busy(coalesce(v.retry_after, interval '30 seconds'));
    ELSIF v.verdict IS NOT NULL AND e.state = 'CLAIMED' THEN
        -- Nothing of the lost attempt stands, so what is told of this call now can settle it.
        PERFORM holdfast.end_lost_attempt(c.effect_id, now);
        UPDATE holdfast.effect SET state = 'OPEN', lease_until = NULL, worker = NULL WHERE effect_id = c.effect_id;
    END IF;
    IF v.verdict IS NOT NULL THEN
        RETURN v;
    END IF;

    IF e.state = 'CLAIMED' THEN
        PERFORM holdfast.end_lost_attempt(c.effect_id, now);
    END IF;
    UPDATE holdfast.effect SET
        state = 'CLAIMED', token = e.token + 1, worker = c.worker, nonce = c.nonce, lease_until = now + c.lease,
        first_claimed_at = coalesce(first_claimed_at, now), attempts_used = attempts_used + 1,
        attempts_budget = c.attempts, key_ttl = coalesce(key_ttl, c.key_ttl), doubt = in_doubt,
        saga_id = c.saga_id, tier = coalesce(c.tier, tier), decision = coalesce(c.decision, decision),
        authorization_body = p_intent
    WHERE effect_id = c.effect_id;
    INSERT INTO holdfast.attempt (effect_id, token, worker, claimed_at)
    VALUES (c.effect_id, e.token + 1, c.worker, now);
    RETURN holdfast.granted(
        e.token + 1, e.attempts_used + 1, in_doubt AND e.recovery = 'probe', e.args, e.keys_refused
    );
END
$$;

-- The claim. Locks saga, effect, then (in the projections) approvals and the session, the chain head last.
-- It and the records make one plan for each statement, at once: all go by keys, and a connection's first five plans of
-- each would cost what a dozen turns do.
-- p_intent is the body of the intent entry: the authorization, and for a model call what it goes on from.
CREATE FUNCTION holdfast.claim_effect(
    p jsonb, p_intent bytea, p_unknown bytea, p_exhausted bytea, p_messages jsonb, p_message_bodies bytea[],
    p_facts jsonb, p_digests bytea[], p_bodies bytea[]
) RETURNS SETOF holdfast.verdict
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, holdfast, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    c holdfast.claim := jsonb_populate_record(NULL::holdfast.claim, p);
    s record;
    g record;
    missing text;
    v holdfast.verdict;
    opened boolean := false;
BEGIN
    SELECT session_key, key_id, status INTO s FROM holdfast.session WHERE id = c.session_id;
    IF NOT FOUND THEN
        missing := 'the session is not here';
    ELSIF s.key_id IS DISTINCT FROM holdfast.sealed_by(p_intent) THEN
        PERFORM holdfast.key_of(c.session_id, p_intent);  -- which refuses it
    ELSIF c.parent IS NOT NULL THEN
        missing := holdfast.add_messages(s.session_key, c.parent, c.first_head, p_messages, p_message_bodies);
    END IF;
    IF missing IS NOT NULL THEN
        RETURN NEXT holdfast.refused('head_missing', 'Postgres is older than this session: ' || missing);
        RETURN;
    END IF;

    SELECT state, epoch INTO g FROM holdfast.saga WHERE id = c.saga_id AND session_key = s.session_key FOR SHARE;
    IF NOT FOUND AND c.kind = 'model' THEN
        INSERT INTO holdfast.saga (id, session_key, request, epoch)
        VALUES (c.saga_id, s.session_key, c.request, c.saga_epoch) ON CONFLICT DO NOTHING;
        opened := FOUND;
        SELECT state, epoch INTO g FROM holdfast.saga WHERE id = c.saga_id AND session_key = s.session_key FOR SHARE;
    END IF;
    IF c.kind = 'model' THEN
        INSERT INTO holdfast.effect (effect_id, session_key, kind, turn, recovery, fingerprint, saga_id)
        VALUES (c.effect_id, s.session_key, 'model', c.turn, c.recovery, c.fingerprint, c.saga_id)
        ON CONFLICT DO NOTHING;
    END IF;
    IF cardinality(p_bodies) > 0 THEN  -- they may change the saga, and this very effect
        PERFORM FROM holdfast.effect WHERE effect_id = c.effect_id FOR UPDATE;
        PERFORM holdfast.project_facts(s.session_key, p_facts);
        SELECT state, epoch INTO g FROM holdfast.saga WHERE id = c.saga_id AND session_key = s.session_key;
    END IF;
    v := holdfast.decide_claim(s.session_key, c, g.state, g.epoch, p_intent, p_unknown, p_exhausted);
    IF c.kind = 'model' AND v.verdict = 'granted' AND (s.status <> 'running' OR cardinality(p_bodies) > 0) THEN
        -- It stood otherwise, or was told so just now; one that ended was reset, and lives again.
        UPDATE holdfast.session SET status = 'running', status_reason = NULL, ended_at = NULL
        WHERE session_key = s.session_key AND status <> 'running';
    END IF;

    IF opened THEN
        PERFORM holdfast.append(
            s.session_key, '@saga/' || c.saga_id || '/opened', sha256('{}'), 'saga_opened', clock_timestamp(), '{}',
            turn => c.turn, saga_id => c.saga_id
        );
    END IF;
    IF cardinality(p_bodies) > 0 THEN
        PERFORM holdfast.append_all(s.session_key, p_facts, p_digests, p_bodies);
    END IF;
    IF v.verdict = 'granted' THEN
        PERFORM holdfast.append(
            s.session_key, format('@effect/%s/%s/intent', c.effect_id, v.token), sha256(p_intent),
            CASE c.kind WHEN 'model' THEN 'model_intent' ELSE 'effect_intent' END, clock_timestamp(), p_intent,
            turn => c.turn, call => c.call, effect_id => c.effect_id, token => v.token, saga_id => c.saga_id,
            tool => c.tool, tier => c.tier, actor => c.approver,
            args_digest => CASE WHEN c.kind <> 'model' THEN c.fingerprint END, is_new => v.code IS NULL
        );
    ELSIF v.verdict = 'settled' AND v.code IS NOT NULL THEN
        PERFORM holdfast.append(
            s.session_key, format('@effect/%s/%s/%s', c.effect_id, v.token, v.code), sha256(v.outcome),
            'effect_outcome', clock_timestamp(), v.outcome, turn => c.turn, call => c.call, effect_id => c.effect_id,
            token => v.token, saga_id => c.saga_id, tool => c.tool, tier => c.tier, outcome => lower(v.state),
            args_digest => CASE WHEN c.kind <> 'model' THEN c.fingerprint END
        );
    END IF;
    RETURN NEXT v;
END
$$;

-- Extend a living lease; false when a newer attempt holds the effect or it is settled.
CREATE FUNCTION holdfast.renew_effect(p_effect_id text, p_token integer, p_lease interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
BEGIN
    UPDATE holdfast.effect SET lease_until = clock_timestamp() + p_lease
    WHERE effect_id = p_effect_id AND token = p_token AND state = 'CLAIMED';
    RETURN FOUND;
END
$$;

-- Its service will refuse the key of this effect from now on, whoever sends it: the next is sent with another. Returns
-- how many keys that makes, and extends the lease: a fence as good as a new claim's. Null where it is none: a newer
-- attempt holds the effect, it is settled, its tool was disabled, or its saga takes nothing more.
CREATE FUNCTION holdfast.refuse_key(p_effect_id text, p_token integer, p_lease interval) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
    UPDATE holdfast.effect e SET keys_refused = keys_refused + 1, lease_until = clock_timestamp() + p_lease
    WHERE e.effect_id = p_effect_id AND e.token = p_token AND e.state = 'CLAIMED'
      AND NOT EXISTS (
          SELECT FROM holdfast.kill_switch k
          WHERE k.tool = e.tool OR k.tool = '*' AND e.tier IS DISTINCT FROM 'read'
      )
      AND EXISTS (
          SELECT FROM holdfast.saga g
          WHERE g.id = e.saga_id AND (g.state IN ('OPEN', 'COMMITTING', 'FORWARD_PENDING') OR e.kind = 'undo')
      )
    RETURNING keys_refused
$$;
