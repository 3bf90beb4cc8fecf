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
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, holdfast, pg_temp AS $$
    SELECT ROW('refused', code, reason, retry_after, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::holdfast.verdict
$$;

CREATE FUNCTION holdfast.busy(retry_after interval) RETURNS holdfast.verdict
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, holdfast, pg_temp AS $$
    SELECT ROW('busy', NULL, NULL, retry_after, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::holdfast.verdict
$$;

CREATE FUNCTION holdfast.settled(of_effect text, code text DEFAULT NULL) RETURNS holdfast.verdict
LANGUAGE sql STABLE SET search_path = pg_catalog, holdfast, pg_temp AS $$
    SELECT ROW(
        'settled', code, NULL, NULL, e.token, NULL, NULL, NULL, e.state, e.outcome, e.committed_saga, NULL
    )::holdfast.verdict
    FROM holdfast.effect e WHERE e.effect_id = of_effect
$$;

-- Append messages to the transcript. Returns why they cannot be: the head they follow, or a body that a client
-- stored by digest, is not here; then Postgres is older than the session.
CREATE FUNCTION holdfast.add_messages(s_key uuid, parent text, first_head text, messages jsonb, bodies bytea[])
RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, holdfast, pg_temp AS $$
#variable_conflict use_column
DECLARE
    m jsonb;
    n bigint;
BEGIN
    IF add_messages.parent <> first_head AND NOT EXISTS (
        SELECT FROM holdfast.message o WHERE o.session_key = s_key AND o.head = add_messages.parent
    ) THEN
        RETURN format('the transcript has no head %s', add_messages.parent);
    END IF;
    FOR m, n IN SELECT * FROM jsonb_array_elements(messages) WITH ORDINALITY LOOP
        IF bodies[n] IS NOT NULL THEN
            INSERT INTO holdfast.content (session_key, digest, body) VALUES (s_key, m->>'digest', bodies[n])
            ON CONFLICT DO NOTHING;
        ELSIF NOT EXISTS (
            SELECT FROM holdfast.content o WHERE o.session_key = s_key AND o.digest = m->>'digest'
        ) THEN
            RETURN format('the message %s was sent by digest and is not stored', m->>'digest');
        END IF;
        INSERT INTO holdfast.message (session_key, head, parent, role, digest, turn, message_id)
        VALUES (
            s_key, m->>'head', m->>'parent', m->>'role', m->>'digest', (m->>'turn')::integer, m->>'message_id'
        )
        ON CONFLICT DO NOTHING;
    END LOOP;
    RETURN NULL;
END
$$;

-- The saga's fence: once it is closed, or in another epoch, nothing of it is sent any more. Its row is locked. While
-- it is unwound, only what undoes a step is sent, and what finds out about a step in doubt.
CREATE FUNCTION holdfast.closed_saga(s_key uuid, c holdfast.claim, in_doubt boolean) RETURNS holdfast.verdict
LANGUAGE plpgsql SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    unwinds boolean := c.kind = 'undo' OR coalesce(c.settles, false) AND in_doubt;
    g record;
BEGIN
    SELECT state, epoch INTO g FROM holdfast.saga WHERE id = c.saga_id AND session_key = s_key;
    IF g.state = 'UNWINDING' AND in_doubt AND NOT unwinds THEN
        RETURN holdfast.refused('unwinding', format(
            'saga %s is being undone, and whoever does that finds out what became of it', c.saga_id
        ));
    END IF;
    IF NOT FOUND OR g.state <> ALL (CASE
        WHEN unwinds THEN ARRAY['UNWINDING']
        WHEN c.kind = 'model' THEN ARRAY['OPEN']
        ELSE ARRAY['OPEN', 'COMMITTING', 'FORWARD_PENDING']
    END) THEN
        RETURN holdfast.refused('saga_closed', format('saga %s is %s', c.saga_id, coalesce(g.state, 'missing')));
    ELSIF g.epoch <> c.saga_epoch THEN
        RETURN holdfast.refused('epoch', format(
            'saga %s is in epoch %s, and the claim says %s', c.saga_id, g.epoch, c.saga_epoch
        ));
    ELSIF c.kind = 'undo' THEN
        RETURN holdfast.not_to_be_undone(c);
    END IF;
    RETURN NULL;
END
$$;

-- Kill switch and breaker, for tools only. Volatile, so that each statement sees what was committed before it got
-- its lock: `disable_tool` locks the switch against every claim, and none slips past it on an older snapshot.
CREATE FUNCTION holdfast.closed_gate(c holdfast.claim, now timestamptz) RETURNS holdfast.verdict
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    k holdfast.kill_switch;
    b holdfast.breaker;
BEGIN
    SELECT * INTO k FROM holdfast.kill_switch s
    WHERE s.tool = c.tool OR s.tool = '*' AND c.tier IS DISTINCT FROM 'read' LIMIT 1;
    IF FOUND THEN
        RETURN holdfast.refused('disabled', format(
            '%s was disabled by %s: %s', CASE k.tool WHEN '*' THEN 'every tool that writes' ELSE k.tool END,
            k.disabled_by, k.reason
        ));
    END IF;
    SELECT * INTO b FROM holdfast.breaker o
    WHERE o.name IN (c.tool, c.service) AND o.open_until > now ORDER BY o.open_until DESC LIMIT 1;
    IF FOUND THEN
        RETURN holdfast.refused('breaker', format(
            '%s failed %s times in a row and is left alone for now; try again in %s s', b.name, b.failures,
            ceil(extract(epoch FROM b.open_until - now))
        ), b.open_until - now);
    END IF;
    RETURN NULL;
END
$$;

-- A model whose provider asked for patience is asked by nobody, whichever worker was told.
CREATE FUNCTION holdfast.busy_model(c holdfast.claim, now timestamptz) RETURNS holdfast.verdict
LANGUAGE sql VOLATILE SET search_path = pg_catalog, holdfast, pg_temp AS $$
    SELECT (holdfast.refused('breaker', format(
        'the provider of %s asked for patience; it is asked again in %s s', b.name,
        ceil(extract(epoch FROM b.open_until - now))
    ), b.open_until - now)).*
    FROM holdfast.breaker b WHERE b.name = c.service AND b.open_until > now
$$;

-- The same again, under another id: a call of the same semantic key that stands, or may stand, and is not undone.
-- The lock lets two such calls meet here only one after the other.
CREATE FUNCTION holdfast.repeated(c holdfast.claim, now timestamptz) RETURNS holdfast.verdict
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    wanted text;
    o record;
BEGIN
    SELECT semantic_key INTO wanted FROM holdfast.effect WHERE effect_id = c.effect_id;
    IF wanted IS NULL OR c.repeat_within IS NULL OR c.repeat_allowed THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(wanted, 0));
    SELECT e.effect_id, e.call, e.state, s.id AS session_id, coalesce(e.settled_at, e.first_claimed_at) AS at INTO o
    FROM holdfast.effect e JOIN holdfast.session s USING (session_key)
    WHERE e.semantic_key = wanted AND e.effect_id <> c.effect_id
      AND (e.state IN ('DONE', 'CLAIMED', 'UNKNOWN') OR e.state = 'OPEN' AND e.doubt)
      AND coalesce(e.settled_at, e.first_claimed_at) > now - c.repeat_within
      AND e.waived IS DISTINCT FROM 'undone_by_hand'
      AND NOT EXISTS (SELECT FROM holdfast.effect u WHERE u.undo_of = e.effect_id AND u.state = 'DONE')
    ORDER BY e.state = 'DONE' DESC, at DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN holdfast.refused('repeat', format(
        'the same %s %s at %s UTC, as call %s of session %s (effect %s)', c.tool,
        CASE o.state WHEN 'DONE' THEN 'was done' ELSE 'was begun, and may have been done,' END,
        to_char(o.at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), o.call, o.session_id, left(o.effect_id, 12)
    ));
END
$$;

-- A call that was asked about needs a person's decision: approved, for these very arguments, and not used by
-- another effect. `use_within` bounds the first claim; later attempts of the effect that used it need no new one.
CREATE FUNCTION holdfast.use_approval(s_key uuid, c holdfast.claim, now timestamptz) RETURNS holdfast.verdict
LANGUAGE plpgsql SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    a holdfast.approval;
BEGIN
    IF c.decision IS NULL THEN
        PERFORM FROM holdfast.approval o
        WHERE o.session_key = s_key AND o.call = c.call AND o.digest = c.fingerprint;
        RETURN CASE WHEN FOUND THEN holdfast.refused(
            'not_approved', format('call %s was put to a person, and no decision came with it', c.call)
        ) END;
    END IF;
    SELECT * INTO a FROM holdfast.approval o
    WHERE o.session_key = s_key AND o.decision = c.decision AND o.call = c.call AND o.digest = c.fingerprint
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN holdfast.refused('not_approved', CASE
            WHEN EXISTS (
                SELECT FROM holdfast.approval o WHERE o.session_key = s_key AND o.decision = c.decision
            ) THEN format('decision %s was made for another call or other arguments', c.decision)
            ELSE format('there is no decision %s', c.decision)
        END);
    ELSIF a.state = 'consumed' THEN
        RETURN CASE WHEN a.consumed_by <> c.effect_id THEN holdfast.refused(
            'approval_used', format('decision %s was already used by another effect', c.decision)
        ) END;
    ELSIF a.state <> 'approved' THEN
        RETURN holdfast.refused('not_approved', format('call %s is %s', c.call, a.state));
    ELSIF now > a.decided_at + coalesce(c.use_within, a.use_within) THEN
        RETURN holdfast.refused('approval_expired', format(
            'decision %s had to be used within %s', c.decision, coalesce(c.use_within, a.use_within)
        ));
    END IF;
    UPDATE holdfast.approval o SET state = 'consumed', consumed_by = c.effect_id, consumed_at = now
    WHERE o.session_key = s_key AND o.call = c.call AND o.digest = c.fingerprint;
    RETURN NULL;
END
$$;

-- The attempt that has not reported lost the effect: by its lease, or to a newer attempt. A model's answer that was
-- lost with it may have been billed.
CREATE FUNCTION holdfast.end_lost_attempt(of_effect text, now timestamptz) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, holdfast, pg_temp AS $$
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
LANGUAGE plpgsql SET search_path = pg_catalog, holdfast, pg_temp AS $$
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

-- Decide a claim, with its effect's row locked. Changes rows, appends nothing. p_unknown and p_exhausted are the
-- outcomes to settle with where the last attempt may have landed, and where the attempt budget is used up.
CREATE FUNCTION holdfast.decide_claim(s_key uuid, c holdfast.claim, p_intent bytea, p_unknown bytea, p_exhausted bytea)
RETURNS holdfast.verdict
LANGUAGE plpgsql SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    now timestamptz := clock_timestamp();
    e record;
    v holdfast.verdict;
    exhausted boolean;
    in_doubt boolean;
    settles boolean := coalesce(c.settles, false);
BEGIN
    SELECT fingerprint, state, token, nonce, lease_until, recovery, key_ttl, first_claimed_at, attempts_used,
           doubt, outcome, args, keys_refused
    INTO e FROM holdfast.effect WHERE effect_id = c.effect_id AND session_key = s_key;
    IF NOT FOUND THEN
        RETURN holdfast.refused('effect_missing', format(
            'Postgres is older than this session: no turn it knows planned the effect %s', c.effect_id
        ));
    ELSIF e.fingerprint <> c.fingerprint THEN
        RETURN holdfast.refused('conflict', format('the effect %s stands for other arguments', c.effect_id));
    ELSIF e.state NOT IN ('OPEN', 'CLAIMED') THEN
        RETURN holdfast.settled(c.effect_id);
    END IF;

    -- A claimed effect whose lease is over is one whose last attempt has not reported. What only reads may be sent
    -- again, and what runs inside our own transaction did not commit; anything else may have landed.
    in_doubt := e.doubt OR e.state = 'CLAIMED' AND e.recovery NOT IN ('retry', 'transactional');

    v := holdfast.closed_saga(s_key, c, in_doubt);
    IF v.verdict IS NOT NULL AND e.lease_until > now AND in_doubt THEN
        RETURN holdfast.busy(e.lease_until - now);  -- it is under way, and its record still counts
    ELSIF v.verdict IS NOT NULL AND in_doubt AND c.kind <> 'undo' AND v.code <> 'unwinding' THEN
        RETURN holdfast.give_up(s_key, c, 'UNKNOWN', p_unknown, 'expired');
    ELSIF v.verdict IS NOT NULL THEN
        RETURN v;
    END IF;

    IF e.state = 'CLAIMED' AND e.nonce = c.nonce THEN  -- granted before, and the answer was lost
        UPDATE holdfast.effect SET lease_until = now + c.lease WHERE effect_id = c.effect_id;
        v.verdict := 'granted';
        v.token := e.token;
        v.attempt := e.attempts_used;
        v.probe := e.doubt AND e.recovery = 'probe';
        v.args := e.args;
        v.keys_refused := e.keys_refused;
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

    IF c.kind = 'model' THEN
        v := holdfast.busy_model(c, now);
        IF v.verdict IS NOT NULL THEN
            RETURN v;
        END IF;
    ELSE
        v := holdfast.closed_gate(c, now);
    END IF;
    IF c.kind = 'call' AND NOT settles THEN  -- what unwinds has its authority from before, and waits for the gate
        IF v.code = 'disabled' AND in_doubt THEN
            RETURN holdfast.give_up(s_key, c, 'UNKNOWN', p_unknown, 'disabled');
        END IF;
        IF v.verdict IS NULL AND NOT in_doubt THEN  -- of one in doubt its recovery class decides
            v := holdfast.repeated(c, now);
        END IF;
        IF v.verdict IS NULL THEN
            v := holdfast.use_approval(s_key, c, now);
        END IF;
    END IF;
    IF v.verdict IS NOT NULL AND in_doubt THEN
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

    PERFORM holdfast.end_lost_attempt(c.effect_id, now);
    UPDATE holdfast.effect SET
        state = 'CLAIMED', token = e.token + 1, worker = c.worker, nonce = c.nonce, lease_until = now + c.lease,
        first_claimed_at = coalesce(first_claimed_at, now), attempts_used = attempts_used + 1,
        attempts_budget = c.attempts, key_ttl = coalesce(key_ttl, c.key_ttl), doubt = in_doubt,
        saga_id = c.saga_id, tier = coalesce(c.tier, tier), decision = coalesce(c.decision, decision),
        authorization_body = p_intent
    WHERE effect_id = c.effect_id;
    INSERT INTO holdfast.attempt (effect_id, token, worker, claimed_at)
    VALUES (c.effect_id, e.token + 1, c.worker, now);
    v.verdict := 'granted';
    v.token := e.token + 1;
    v.attempt := e.attempts_used + 1;
    v.probe := in_doubt AND e.recovery = 'probe';
    v.args := e.args;
    v.keys_refused := e.keys_refused;
    RETURN v;
END
$$;

-- The claim. Locks saga, effect, then (in the projections) approvals and the session, the chain head last.
-- p_intent is the body of the intent entry: the authorization, and for a model call what it goes on from.
CREATE FUNCTION holdfast.claim_effect(
    p jsonb, p_intent bytea, p_unknown bytea, p_exhausted bytea, p_messages jsonb, p_message_bodies bytea[],
    p_facts jsonb, p_digests bytea[], p_bodies bytea[]
) RETURNS SETOF holdfast.verdict
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    c holdfast.claim := jsonb_populate_record(NULL::holdfast.claim, p);
    s_key uuid;
    missing text := 'the session is not here';
    v holdfast.verdict;
    opened boolean := false;
BEGIN
    SELECT session_key INTO s_key FROM holdfast.session WHERE id = c.session_id;
    IF FOUND THEN
        PERFORM holdfast.key_of(c.session_id, p_intent);
        missing := holdfast.add_messages(s_key, c.parent, c.first_head, p_messages, p_message_bodies);
    END IF;
    IF missing IS NOT NULL THEN
        RETURN NEXT holdfast.refused('head_missing', 'Postgres is older than this session: ' || missing);
        RETURN;
    END IF;

    IF c.kind = 'model' THEN
        INSERT INTO holdfast.saga (id, session_key, request, epoch)
        VALUES (c.saga_id, s_key, c.request, c.saga_epoch) ON CONFLICT DO NOTHING;
        opened := FOUND;
    END IF;
    PERFORM FROM holdfast.saga WHERE id = c.saga_id FOR SHARE;
    IF c.kind = 'model' THEN
        INSERT INTO holdfast.effect (effect_id, session_key, kind, turn, recovery, fingerprint, saga_id)
        VALUES (c.effect_id, s_key, 'model', c.turn, c.recovery, c.fingerprint, c.saga_id) ON CONFLICT DO NOTHING;
    END IF;
    PERFORM FROM holdfast.effect WHERE effect_id = c.effect_id FOR UPDATE;
    PERFORM holdfast.project_facts(s_key, p_facts);
    IF c.kind = 'model' THEN
        v := holdfast.left_behind(s_key, c);
    END IF;
    IF v.verdict IS NULL THEN
        v := holdfast.decide_claim(s_key, c, p_intent, p_unknown, p_exhausted);
    END IF;
    IF c.kind = 'model' AND v.verdict = 'granted' THEN
        UPDATE holdfast.session SET status = 'running', status_reason = NULL
        WHERE session_key = s_key AND status <> 'running' AND ended_at IS NULL;
    END IF;

    IF opened THEN
        PERFORM holdfast.append(
            s_key, '@saga/' || c.saga_id || '/opened', sha256('{}'), 'saga_opened', clock_timestamp(), '{}',
            turn => c.turn, saga_id => c.saga_id
        );
    END IF;
    PERFORM holdfast.append_all(s_key, p_facts, p_digests, p_bodies);
    IF v.verdict = 'granted' THEN
        PERFORM holdfast.append(
            s_key, format('@effect/%s/%s/intent', c.effect_id, v.token), sha256(p_intent),
            CASE c.kind WHEN 'model' THEN 'model_intent' ELSE 'effect_intent' END, clock_timestamp(), p_intent,
            turn => c.turn, call => c.call, effect_id => c.effect_id, token => v.token, saga_id => c.saga_id,
            tool => c.tool, tier => c.tier, actor => c.approver,
            args_digest => CASE WHEN c.kind <> 'model' THEN c.fingerprint END
        );
    ELSIF v.verdict = 'settled' AND v.code IS NOT NULL THEN
        PERFORM holdfast.append(
            s_key, format('@effect/%s/%s/%s', c.effect_id, v.token, v.code), sha256(v.outcome), 'effect_outcome',
            clock_timestamp(), v.outcome, turn => c.turn, call => c.call, effect_id => c.effect_id,
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
