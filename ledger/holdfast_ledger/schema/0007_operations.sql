-- compatible from: 1
-- What people settle and stop: doubt about an effect, and tools nobody may dispatch.

-- In doubt for a person to settle: UNKNOWN, or left so by a request that ended, since nobody asks for it any more.
CREATE FUNCTION holdfast.left_in_doubt(
    state text, doubt boolean, recovery text, lease_until timestamptz, saga_state text
) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
    SELECT state = 'UNKNOWN' OR saga_state = 'HELD' AND (
        state = 'OPEN' AND doubt
        OR state = 'CLAIMED' AND recovery NOT IN ('retry', 'transactional') AND lease_until < clock_timestamp()
    )
$$;

-- A person or a probe found out about an effect in doubt: DONE, FAILED, or OPEN to be tried again, which needs a request
-- that still runs. A person's OPEN permits one more attempt and says nothing of those before: the doubt stays, unless a
-- probe's final no ended it. The same resolution again is accepted again.
CREATE FUNCTION holdfast.resolve_effect(
    p jsonb, p_outcome bytea, p_result bytea, p_shown bytea, p_undo_args bytea, p_body bytea
) RETURNS SETOF holdfast.recorded
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    s_key uuid := holdfast.key_of(p->>'session_id', p_body);
    g holdfast.saga;
    e record;
    new_state text := p->>'state';
    ended boolean;
    told_as text := format('@effect/%s/resolved/%s', p->>'effect_id', p->>'id');
BEGIN
    SELECT o.* INTO g FROM holdfast.saga o
    WHERE o.id = (SELECT saga_id FROM holdfast.effect WHERE effect_id = p->>'effect_id') FOR UPDATE;
    SELECT session_key, kind, state, token, turn, call, saga_id, tool, tier, fingerprint, pivot, doubt, recovery,
           lease_until
    INTO e FROM holdfast.effect WHERE effect_id = p->>'effect_id' FOR UPDATE;
    IF e.session_key IS DISTINCT FROM s_key THEN
        RAISE EXCEPTION USING ERRCODE = 'HF007', MESSAGE = format('there is no effect %s', p->>'effect_id');
    END IF;
    IF NOT holdfast.left_in_doubt(e.state, e.doubt, e.recovery, e.lease_until, g.state)
        OR new_state NOT IN ('DONE', 'FAILED', 'OPEN') OR new_state = 'OPEN' AND NOT holdfast.may_run_again(g, e.kind)
    THEN
        RETURN NEXT holdfast.standing(p->>'effect_id', EXISTS (
            SELECT FROM holdfast.entry o
            WHERE o.session_key = s_key AND o.fact_key = told_as AND o.fact_digest = holdfast.digest_of(p_body)
        ));
        RETURN;
    END IF;
    PERFORM holdfast.end_lost_attempt(p->>'effect_id', clock_timestamp());
    UPDATE holdfast.effect SET
        state = new_state, lease_until = NULL,
        doubt = new_state = 'OPEN' AND NOT coalesce((p->>'key_refused')::boolean, false), outcome = p_outcome, result = p_result, shown = p_shown,
        undo_tool = p->>'undo_tool', undo_version = p->>'undo_version', undo_args = p_undo_args,
        attempts_used = CASE WHEN new_state = 'OPEN' THEN 0 ELSE attempts_used END,
        keys_refused = keys_refused + CASE WHEN (p->>'key_refused')::boolean THEN 1 ELSE 0 END,
        first_claimed_at = CASE WHEN new_state = 'OPEN' THEN NULL ELSE first_claimed_at END,
        settled_at = CASE WHEN new_state <> 'OPEN' THEN clock_timestamp() END,
        settled_order = CASE  -- what was done after it may build on it, whenever it is found out
            WHEN new_state <> 'OPEN' THEN coalesce(settled_order, nextval('holdfast.settled_order'))
        END
    WHERE effect_id = p->>'effect_id';
    IF new_state = 'DONE' AND e.pivot THEN
        PERFORM holdfast.pass_pivot(s_key, g.id);
    END IF;
    ended := holdfast.judge_again(g);
    PERFORM holdfast.append(
        s_key, told_as, sha256(p_body), 'effect_resolved', clock_timestamp(), p_body, turn => e.turn,
        call => e.call, effect_id => p->>'effect_id', token => e.token, saga_id => e.saga_id, tool => e.tool,
        tier => e.tier, outcome => lower(new_state), actor => p->>'by', args_digest => e.fingerprint
    );
    IF ended THEN
        PERFORM holdfast.say_saga_closed(s_key, g.id);
    ELSIF g.state = 'HELD' AND g.goal = 'unwind' THEN
        PERFORM holdfast.say_unwinding(s_key, g.id, p->>'by') FROM holdfast.saga o
        WHERE o.id = g.id AND o.state = 'UNWINDING';
    END IF;
    RETURN NEXT holdfast.standing(p->>'effect_id', true);
END
$$;

-- A request that ended in doubt is judged again, as it ended, when nothing of it is in doubt any more; an unwind that
-- was held for the doubt goes on. Returns whether its saga got another end.
CREATE FUNCTION holdfast.judge_again(g holdfast.saga) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    judged text;
BEGIN
    IF g.state = 'HELD' AND g.goal = 'unwind' THEN
        PERFORM holdfast.unwind_on(g);
        RETURN false;
    ELSIF g.state <> 'HELD' OR g.request_ended IS NULL THEN
        RETURN false;
    END IF;
    judged := holdfast.end_of_open_saga(g.id, g.request_ended);
    IF judged <> 'HELD' THEN
        PERFORM holdfast.end_saga(g.id, judged, 'the last doubt about it was settled');
    END IF;
    RETURN judged <> 'HELD';
END
$$;

-- A probe was asked about an UNKNOWN effect and could not tell. Returns the effect's state.
CREATE FUNCTION holdfast.note_probe(p_effect_id text, p_said text) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
    UPDATE holdfast.effect SET probes = probes + 1, probed_at = clock_timestamp(), probe_said = p_said
    WHERE effect_id = p_effect_id AND state = 'UNKNOWN';
    SELECT state FROM holdfast.effect WHERE effect_id = p_effect_id;
$$;

-- Append to the chain of what people do beside any session, `@operations`: no session can have its id. It is made
-- when it is first needed.
CREATE FUNCTION holdfast.say_operation(p jsonb, kind text, p_body bytea) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    new_key uuid;
BEGIN
    INSERT INTO holdfast.session (id, kind, agent, requested_by, status, ended_at)
    VALUES ('@operations', 'operations', '@operations', 'holdfast', 'completed', clock_timestamp())
    ON CONFLICT (id) DO NOTHING
    RETURNING session_key INTO new_key;
    IF FOUND THEN
        INSERT INTO holdfast.chain (session_key, head)
        VALUES (new_key, holdfast.chain_start('@operations', new_key));
    END IF;
    PERFORM holdfast.append(
        holdfast.key_of('@operations'), '@operation/' || (p->>'id'), sha256(p_body), kind, clock_timestamp(), p_body,
        tool => p->>'tool', actor => p->>'by'
    );
END
$$;

-- What stands of one tool's switch.
CREATE TYPE holdfast.switched AS (changed boolean, reason text, by text, at timestamptz);

-- Stop a tool, or '*' for every tool above tier read. When this has committed, every claim that was granted before
-- is visible and none is granted after: the lock waits for claims under way, and claims wait for it.
CREATE FUNCTION holdfast.disable_tool(p jsonb, p_body bytea) RETURNS SETOF holdfast.switched
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    k holdfast.kill_switch;
    made boolean;
BEGIN
    LOCK TABLE holdfast.kill_switch IN ACCESS EXCLUSIVE MODE;
    INSERT INTO holdfast.kill_switch (tool, reason, disabled_by) VALUES (p->>'tool', p->>'reason', p->>'by')
    ON CONFLICT DO NOTHING;
    made := FOUND;
    SELECT * INTO STRICT k FROM holdfast.kill_switch WHERE tool = p->>'tool';
    IF made THEN
        PERFORM holdfast.say_operation(p, 'tool_disabled', p_body);
    END IF;
    RETURN NEXT ROW(made, k.reason, k.disabled_by, k.at)::holdfast.switched;
END
$$;

-- Let a tool go again; its circuit breaker starts anew. `changed` false: it was not stopped.
CREATE FUNCTION holdfast.enable_tool(p jsonb, p_body bytea) RETURNS SETOF holdfast.switched
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    k holdfast.kill_switch;
    b holdfast.breaker;
BEGIN
    DELETE FROM holdfast.kill_switch WHERE tool = p->>'tool' RETURNING * INTO k;
    DELETE FROM holdfast.breaker WHERE name = p->>'tool' AND open_until > clock_timestamp() RETURNING * INTO b;
    IF k.tool IS NOT NULL OR b.name IS NOT NULL THEN
        PERFORM holdfast.say_operation(p, 'tool_enabled', p_body);
    END IF;
    RETURN NEXT ROW(k.tool IS NOT NULL OR b.name IS NOT NULL, k.reason, k.disabled_by, k.at)::holdfast.switched;
END
$$;
