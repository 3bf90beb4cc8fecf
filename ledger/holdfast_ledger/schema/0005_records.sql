-- compatible from: 1
-- RECORD: the end of one attempt, by its token.

-- What a record says, see holdfast_ledger.records.Record.
CREATE TYPE holdfast.recording AS (
    session_id text, effect_id text, token integer, state text, dispatched boolean, doubt boolean, final boolean,
    latency interval,
    undo_tool text, undo_version text, usd numeric,
    service text, failed boolean, breaker_failures integer, breaker_within interval, breaker_open_for interval,
    leave_alone interval,
    assumed_tokens bigint, assumed_usd numeric
);

-- `state` and `outcome` are what stands now. `accepted` false: another attempt's report stands, or none yet.
CREATE TYPE holdfast.recorded AS (accepted boolean, state text, outcome bytea, committed boolean);

CREATE FUNCTION holdfast.microseconds(value interval) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (extract(epoch FROM value) * 1000000)::bigint;

CREATE FUNCTION holdfast.standing(of_effect text, accepted boolean) RETURNS holdfast.recorded
LANGUAGE sql STABLE AS $$
    SELECT ROW(
        accepted, e.state, CASE WHEN e.state NOT IN ('OPEN', 'CLAIMED') THEN e.outcome END, e.committed_saga
    )::holdfast.recorded
    FROM holdfast.effect e WHERE e.effect_id = of_effect
$$;

-- Whether the report of an attempt counts: `now` (it holds the effect), `late` (it landed although the effect was
-- cancelled under it), `again` (this very report stands already: its answer got lost) or `stale`.
CREATE FUNCTION holdfast.standing_of_report(of_effect text, by_token integer, said text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN a.state = said THEN 'again'
        WHEN e.token <> by_token THEN 'stale'
        WHEN e.state = 'CLAIMED' THEN 'now'
        WHEN e.state = 'CANCELLED' AND said = 'DONE' AND e.recovery <> 'transactional' THEN 'late' -- else rolled back
        WHEN e.state = 'UNKNOWN' AND said = 'DONE' AND EXISTS (
            SELECT FROM holdfast.saga g WHERE g.id = e.saga_id AND g.goal = 'unwind'  -- which must know what stands
        ) THEN 'late'
        ELSE 'stale'
    END
    FROM holdfast.effect e LEFT JOIN holdfast.attempt a ON a.effect_id = e.effect_id AND a.token = by_token
    WHERE e.effect_id = of_effect
$$;

-- A report that lost: kept as evidence of what that attempt did, changes nothing.
CREATE FUNCTION holdfast.keep_stale_report(s_key uuid, r holdfast.recording, p_evidence bytea, p_body bytea)
RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    e record;
BEGIN
    UPDATE holdfast.attempt
    SET reported = r.state, reported_at = clock_timestamp(), evidence = p_evidence,
        latency_us = holdfast.microseconds(r.latency)
    WHERE effect_id = r.effect_id AND token = r.token AND reported IS NULL;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT kind, turn, call, saga_id, tool, tier, fingerprint INTO STRICT e
    FROM holdfast.effect WHERE effect_id = r.effect_id;
    PERFORM holdfast.append(
        s_key, format('@effect/%s/%s/late', r.effect_id, r.token), sha256(p_body), 'effect_outcome',
        clock_timestamp(), p_body, turn => e.turn, call => e.call, effect_id => r.effect_id, token => r.token,
        saga_id => e.saga_id, tool => e.tool, tier => e.tier, outcome => 'late_' || lower(r.state),
        args_digest => CASE WHEN e.kind <> 'model' THEN e.fingerprint END
    );
END
$$;

-- The state an accepted report leads to. A clean transient failure releases the effect, until its attempt budget
-- is used up: then it is FAILED, or UNKNOWN where an earlier attempt may have landed. A failure answers for those
-- only where it says so.
CREATE FUNCTION holdfast.state_after(r holdfast.recording, budget integer, used integer, in_doubt boolean)
RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN r.state = 'FAILED' AND in_doubt AND NOT coalesce(r.final, false) THEN 'UNKNOWN'
        WHEN r.state <> 'OPEN' OR NOT coalesce(r.dispatched, true) OR budget = 0 OR used < budget THEN r.state
        WHEN in_doubt THEN 'UNKNOWN'
        ELSE 'FAILED'
    END
$$;

-- The circuit breaker of a service, or of a tool that names none: so many failures in a row, the first not longer ago
-- than `within`, open it. Once it was open, the next failure soon after opens it again; any success closes it.
CREATE FUNCTION holdfast.count_for_breaker(r holdfast.recording, counted text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz := clock_timestamp();
    b holdfast.breaker;
BEGIN
    IF NOT r.failed THEN
        DELETE FROM holdfast.breaker o WHERE o.name = counted AND (o.open_until IS NULL OR o.open_until <= now);
        RETURN;
    END IF;
    INSERT INTO holdfast.breaker AS o (name, failures, since) VALUES (counted, 1, now)
    ON CONFLICT (name) DO UPDATE SET
        failures = CASE WHEN greatest(o.since, o.open_until) < now - r.breaker_within THEN 1 ELSE o.failures + 1 END,
        since = CASE WHEN greatest(o.since, o.open_until) < now - r.breaker_within THEN now ELSE o.since END
    RETURNING * INTO b;
    IF b.failures >= r.breaker_failures THEN
        UPDATE holdfast.breaker o SET open_until = now + r.breaker_open_for WHERE o.name = counted;
    END IF;
END
$$;

-- Its provider asked that a model be left alone so long, for an hour at the most: the latest end of such a pause counts.
CREATE FUNCTION holdfast.leave_alone(r holdfast.recording) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO holdfast.breaker AS o (name, failures, open_until)
    SELECT r.service, 1, clock_timestamp() + least(r.leave_alone, interval '1 hour')
    WHERE r.leave_alone IS NOT NULL AND r.service IS NOT NULL
    ON CONFLICT (name) DO UPDATE SET
        failures = CASE WHEN o.open_until > clock_timestamp() THEN o.failures + 1 ELSE 1 END,
        since = CASE WHEN o.open_until > clock_timestamp() THEN o.since ELSE clock_timestamp() END,
        open_until = greatest(o.open_until, excluded.open_until)
$$;

-- p_body is the body of the outcome entry; p_unknown the outcome where it ends in an earlier attempt's doubt.
CREATE FUNCTION holdfast.record_effect(
    p jsonb, p_outcome bytea, p_unknown bytea, p_result bytea, p_shown bytea, p_undo_args bytea,
    p_evidence bytea, p_body bytea
) RETURNS SETOF holdfast.recorded
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, holdfast, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    r holdfast.recording := jsonb_populate_record(NULL::holdfast.recording, p);
    s_key uuid := holdfast.key_of(r.session_id, p_body);
    e record;
    standing text;
    in_doubt boolean;
    new_state text;
    stands bytea := p_outcome;
    moves_saga boolean := holdfast.lock_moved_saga(r.effect_id);
BEGIN
    SELECT session_key, kind, turn, call, saga_id, tool, tier, fingerprint, attempts_budget, attempts_used, doubt,
           state, token
    INTO e FROM holdfast.effect WHERE effect_id = r.effect_id FOR UPDATE;
    IF e.session_key IS DISTINCT FROM s_key THEN
        RAISE EXCEPTION USING ERRCODE = 'HF007', MESSAGE = format('there is no effect %s', r.effect_id);
    END IF;
    IF e.state IN ('CANCELLED', 'UNKNOWN') AND NOT moves_saga THEN  -- meanwhile: the saga's lock comes before the effect's
        RAISE EXCEPTION USING ERRCODE = '40001', MESSAGE = 'the effect was given up under its record';
    END IF;
    IF e.state <> 'CLAIMED' OR e.token <> r.token THEN
        standing := holdfast.standing_of_report(r.effect_id, r.token, r.state);
        IF standing = 'stale' THEN
            PERFORM holdfast.keep_stale_report(s_key, r, p_evidence, p_body);
        END IF;
        IF standing <> 'late' THEN
            RETURN NEXT holdfast.standing(r.effect_id, standing = 'again');
            RETURN;
        END IF;
    END IF;

    in_doubt := e.doubt OR r.state = 'OPEN' AND coalesce(r.doubt, false);
    new_state := holdfast.state_after(r, e.attempts_budget, e.attempts_used, in_doubt);
    IF new_state = 'UNKNOWN' AND r.state <> 'UNKNOWN' THEN
        stands := p_unknown;
    END IF;
    UPDATE holdfast.effect SET
        state = new_state, lease_until = NULL, worker = NULL, doubt = in_doubt, result = p_result, shown = p_shown,
        outcome = stands,
        attempts_used = attempts_used - CASE WHEN r.dispatched IS FALSE THEN 1 ELSE 0 END,
        undo_tool = r.undo_tool, undo_version = r.undo_version, undo_args = p_undo_args,
        latency_us = holdfast.microseconds(r.latency), usd = r.usd,
        settled_at = CASE WHEN new_state <> 'OPEN' THEN clock_timestamp() END,
        settled_order = CASE  -- one that was in doubt keeps its place: what was done after it may build on it
            WHEN new_state = 'OPEN' THEN settled_order
            ELSE coalesce(settled_order, nextval('holdfast.settled_order'))
        END
    WHERE effect_id = r.effect_id;
    UPDATE holdfast.attempt SET
        state = r.state, ended_at = clock_timestamp(), evidence = p_evidence,
        latency_us = holdfast.microseconds(r.latency), cost_unknown = e.kind = 'model' AND r.usd IS NULL
    WHERE effect_id = r.effect_id AND token = r.token;
    IF e.kind = 'model' THEN
        UPDATE holdfast.session SET
            lost_attempts = lost_attempts + CASE WHEN r.usd IS NULL THEN 1 ELSE 0 END,
            assumed_tokens = assumed_tokens + CASE WHEN new_state = 'OPEN' THEN 0 ELSE r.assumed_tokens END,
            assumed_usd = assumed_usd + CASE WHEN new_state = 'OPEN' THEN 0 ELSE r.assumed_usd END
        WHERE session_key = s_key;
    END IF;
    IF r.failed IS NOT NULL AND r.breaker_failures IS NOT NULL THEN
        PERFORM holdfast.count_for_breaker(r, coalesce(r.service, e.tool));
    END IF;
    IF r.leave_alone IS NOT NULL THEN
        PERFORM holdfast.leave_alone(r);
    END IF;
    IF e.kind <> 'model' AND new_state <> 'OPEN' THEN
        UPDATE holdfast.session
        SET calls = calls + CASE e.kind WHEN 'call' THEN 1 ELSE 0 END, usd = usd + r.usd WHERE session_key = s_key;
    END IF;
    PERFORM holdfast.append(
        s_key, format('@effect/%s/%s/outcome', r.effect_id, r.token), sha256(p_body), 'effect_outcome',
        clock_timestamp(), p_body, turn => e.turn, call => e.call, effect_id => r.effect_id, token => r.token,
        saga_id => e.saga_id, tool => e.tool, tier => e.tier,
        outcome => CASE
            WHEN standing = 'late' THEN 'landed_late' WHEN new_state = 'OPEN' THEN 'released' ELSE lower(new_state)
        END,
        args_digest => CASE WHEN e.kind <> 'model' THEN e.fingerprint END,
        latency_us => holdfast.microseconds(r.latency), is_new => standing IS NULL
    );
    IF moves_saga AND new_state = 'DONE' THEN
        PERFORM holdfast.move_saga_of(s_key, r.effect_id, coalesce(standing = 'late', false));
    END IF;
    RETURN NEXT ROW(true, new_state, CASE WHEN new_state <> 'OPEN' THEN stands END, false)::holdfast.recorded;
END
$$;

-- What a recorded model turn says, see holdfast_ledger.records.TurnRecord.
CREATE TYPE holdfast.turn_recording AS (
    session_id text, effect_id text, token integer, turn integer, head text, next_head text, digest text,
    stop_reason text, model_asked text, model_answered text, input_tokens bigint, output_tokens bigint,
    cache_read_tokens bigint, cache_write_tokens bigint, usd numeric, latency interval, request_digest text,
    saga_id text, saga_epoch integer, commit_saga boolean,
    lost_attempts integer, assumed_tokens bigint, assumed_usd numeric, counted bigint
);

-- What makes semantic keys of this ledger unlike any other's: amounts and names are few enough to be guessed from a bare
-- digest. Nobody is granted a look at it.
CREATE TABLE holdfast.semantic_salt (salt bytea NOT NULL);
INSERT INTO holdfast.semantic_salt
SELECT sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'));

CREATE FUNCTION holdfast.salted_key(bare text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT encode(sha256(salt || convert_to(bare, 'UTF8')), 'hex') FROM holdfast.semantic_salt WHERE bare IS NOT NULL
$$;

CREATE FUNCTION holdfast.plan_calls(
    s_key uuid, r holdfast.turn_recording, calls jsonb, args bytea[], salts bytea[]
) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO holdfast.effect (
        effect_id, session_key, kind, turn, call, tool_use_id, tool, tool_version, tier, recovery, fingerprint,
        preview, saga_id, semantic_key, args, args_salt
    )
    SELECT
        c->>'effect_id', s_key, 'call', r.turn, c->>'call', c->>'tool_use_id', c->>'tool', c->>'tool_version',
        c->>'tier', c->>'recovery', c->>'digest', c->>'preview', r.saga_id,
        CASE WHEN c->>'semantic_key' IS NOT NULL THEN holdfast.salted_key(c->>'semantic_key') END, args[n], salts[n]
    FROM jsonb_array_elements(calls) WITH ORDINALITY AS planned (c, n)
    ON CONFLICT DO NOTHING
$$;

CREATE FUNCTION holdfast.store_turn(s_key uuid, r holdfast.turn_recording, p_body bytea) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO holdfast.content (session_key, digest, body) VALUES (s_key, r.digest, p_body)
    ON CONFLICT DO NOTHING;
    INSERT INTO holdfast.message (session_key, head, parent, role, digest, turn)
    VALUES (s_key, r.next_head, r.head, 'assistant', r.digest, r.turn)
    ON CONFLICT DO NOTHING;
    INSERT INTO holdfast.turn (
        effect_id, session_key, turn, head, next_head, digest, stop_reason, model_asked, model_answered,
        input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, usd, lost_attempts, assumed_tokens,
        assumed_usd, latency_us, request_digest, counted
    )
    VALUES (
        r.effect_id, s_key, r.turn, r.head, r.next_head, r.digest, r.stop_reason, r.model_asked,
        r.model_answered, r.input_tokens, r.output_tokens, r.cache_read_tokens, r.cache_write_tokens, r.usd,
        r.lost_attempts, r.assumed_tokens, r.assumed_usd,
        holdfast.microseconds(r.latency), r.request_digest, r.counted
    );
$$;

-- Commit when no effect of the saga but this turn itself is open, claimed or unknown. The saga's row is locked.
CREATE FUNCTION holdfast.may_commit(r holdfast.turn_recording) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT coalesce(r.commit_saga, false)
       AND EXISTS (
           SELECT FROM holdfast.saga g WHERE g.id = r.saga_id AND g.state = 'OPEN' AND g.epoch = r.saga_epoch
       )
       AND NOT EXISTS (
           SELECT FROM holdfast.effect e
           WHERE e.saga_id = r.saga_id AND e.effect_id <> r.effect_id AND e.state IN ('OPEN', 'CLAIMED', 'UNKNOWN')
       )
$$;

-- A model turn, all of it or nothing: message, usage, cost, planned calls, ledger, and the saga's commit.
CREATE FUNCTION holdfast.record_turn(
    p jsonb, p_outcome bytea, p_message bytea, p_body bytea, p_calls jsonb, p_args bytea[], p_salts bytea[]
) RETURNS SETOF holdfast.recorded
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, holdfast, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    r holdfast.turn_recording := jsonb_populate_record(NULL::holdfast.turn_recording, p);
    s_key uuid := holdfast.key_of(r.session_id, p_body);
    e record;
    commits boolean := false;
BEGIN
    PERFORM FROM holdfast.saga WHERE id = r.saga_id FOR UPDATE;
    SELECT session_key, state, token INTO e FROM holdfast.effect
    WHERE effect_id = r.effect_id AND kind = 'model' FOR UPDATE;
    IF e.session_key IS DISTINCT FROM s_key THEN
        RAISE EXCEPTION USING ERRCODE = 'HF007', MESSAGE = format('there is no effect %s', r.effect_id);
    END IF;
    IF e.state <> 'CLAIMED' OR e.token <> r.token THEN
        RETURN NEXT holdfast.standing(
            r.effect_id, holdfast.standing_of_report(r.effect_id, r.token, 'DONE') = 'again'
        );
        RETURN;
    END IF;

    PERFORM holdfast.store_turn(s_key, r, p_message);
    IF cardinality(p_args) > 0 THEN
        PERFORM holdfast.plan_calls(s_key, r, p_calls, p_args, p_salts);
    END IF;
    IF r.commit_saga THEN
        commits := holdfast.may_commit(r);
    END IF;
    IF commits THEN
        PERFORM holdfast.end_saga(r.saga_id, 'COMMITTED', 'the request is done');
    END IF;
    UPDATE holdfast.effect SET
        state = 'DONE', lease_until = NULL, worker = NULL, outcome = p_outcome, committed_saga = commits,
        latency_us = holdfast.microseconds(r.latency), usd = r.usd, settled_at = clock_timestamp(),
        settled_order = nextval('holdfast.settled_order')
    WHERE effect_id = r.effect_id;
    UPDATE holdfast.attempt
    SET state = 'DONE', ended_at = clock_timestamp(), latency_us = holdfast.microseconds(r.latency)
    WHERE effect_id = r.effect_id AND token = r.token;
    UPDATE holdfast.session SET
        turns = turns + 1, input_tokens = input_tokens + r.input_tokens,
        output_tokens = output_tokens + r.output_tokens,
        cache_read_tokens = cache_read_tokens + r.cache_read_tokens,
        cache_write_tokens = cache_write_tokens + r.cache_write_tokens, usd = usd + r.usd,
        assumed_tokens = assumed_tokens + r.assumed_tokens, assumed_usd = assumed_usd + r.assumed_usd,
        status = CASE WHEN commits AND ended_at IS NULL THEN 'idle' ELSE status END
    WHERE session_key = s_key;
    PERFORM holdfast.append(
        s_key, format('@effect/%s/%s/outcome', r.effect_id, r.token), sha256(p_body), 'model_turn',
        clock_timestamp(), p_body, turn => r.turn, effect_id => r.effect_id, token => r.token,
        saga_id => r.saga_id, outcome => r.stop_reason, actor => r.model_answered,
        latency_us => holdfast.microseconds(r.latency), is_new => true
    );
    IF commits THEN
        PERFORM holdfast.say_saga_closed(s_key, r.saga_id);
    END IF;
    RETURN NEXT ROW(true, 'DONE', p_outcome, commits)::holdfast.recorded;
END
$$;
