-- compatible from: 1
-- Sessions: announced by a client, opened by their workflow, told facts, closed.
-- Lock order everywhere: saga, effect, approval, session, chain head last.

-- Set once; afterwards only returned. The caller compares.
CREATE FUNCTION holdfast.bind(cluster_id text, namespace text)
RETURNS TABLE (bound_cluster_id text, bound_namespace text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
BEGIN
    UPDATE holdfast.meta m
    SET cluster_id = bind.cluster_id, namespace = bind.namespace, bound_at = clock_timestamp()
    WHERE m.cluster_id IS NULL;
    RETURN QUERY SELECT m.cluster_id, m.namespace FROM holdfast.meta m;
END
$$;

CREATE FUNCTION holdfast.key_of(session_id text) RETURNS uuid
LANGUAGE plpgsql STABLE AS $$
DECLARE
    found_key uuid;
BEGIN
    SELECT s.session_key INTO found_key FROM holdfast.session s WHERE s.id = session_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'HF003', MESSAGE = format('there is no session "%s"', session_id);
    END IF;
    RETURN found_key;
END
$$;

-- The same, for one who writes this body: sealed with the session's key where it has one, in clear where it has none.
CREATE FUNCTION holdfast.key_of(session_id text, body bytea) RETURNS uuid
LANGUAGE plpgsql STABLE AS $$
DECLARE
    s record;
BEGIN
    SELECT o.session_key, o.key_id INTO s FROM holdfast.session o WHERE o.id = session_id;
    IF FOUND AND s.key_id IS DISTINCT FROM holdfast.sealed_by(body) THEN
        RAISE EXCEPTION USING ERRCODE = 'HF008', MESSAGE = format(
            'the session "%s" is stored %s, and this process wrote otherwise: give it the master keys', session_id,
            CASE WHEN s.key_id IS NULL THEN 'in clear' ELSE format('encrypted, under key %s', s.key_id) END
        );
    END IF;
    RETURN coalesce(s.session_key, holdfast.key_of(session_id));
END
$$;

-- Insert the session's row, its wrapped key where one is proposed, and its empty chain, unless it is there; returns
-- whether this call made it.
CREATE FUNCTION holdfast.add_session(p jsonb) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    new_key uuid;
BEGIN
    IF p->>'session_id' ^@ '@' THEN
        RAISE EXCEPTION USING ERRCODE = 'HF002', MESSAGE = format(
            'the id "%s" is reserved: no session id begins with "@"', p->>'session_id'
        );
    END IF;
    INSERT INTO holdfast.session (id, agent, requested_by, on_behalf_of, tenant, labels, start_digest, key_id)
    VALUES (
        p->>'session_id', p->>'agent', p->>'requested_by', p->>'on_behalf_of', p->>'tenant',
        coalesce(p->'labels', '{}'), p->>'start_digest', p->'key'->>'id'
    )
    ON CONFLICT (id) DO NOTHING
    RETURNING session_key INTO new_key;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO holdfast.chain (session_key, head)
    VALUES (new_key, holdfast.chain_start(p->>'session_id', new_key));
    PERFORM holdfast.keep_key(new_key, p->'key');
    RETURN true;
END
$$;

-- A client announces a session. The same id with another start is a reused id, for ever.
CREATE FUNCTION holdfast.register_session(p jsonb)
RETURNS TABLE (fresh boolean, status text, first_run_id text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
#variable_conflict use_column
DECLARE
    made boolean := holdfast.add_session(p);
    s holdfast.session;
BEGIN
    SELECT * INTO STRICT s FROM holdfast.session WHERE id = p->>'session_id';
    IF s.start_digest IS DISTINCT FROM p->>'start_digest' THEN
        RAISE EXCEPTION USING ERRCODE = 'HF002', MESSAGE = format(
            'the session id "%s" was used before for another start', s.id
        );
    END IF;
    RETURN QUERY SELECT made, s.status::text, s.first_run_id;
END
$$;

CREATE FUNCTION holdfast.store_content(p_session_id text, p_digest text, p_body bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
    INSERT INTO holdfast.content (session_key, digest, body)
    VALUES (holdfast.key_of(p_session_id, p_body), p_digest, p_body)
    ON CONFLICT DO NOTHING
$$;

-- What a fact changes besides being recorded. Applying it again, or late, changes nothing.
-- `detail` of a fact holds the fields a projection needs.
CREATE FUNCTION holdfast.project_facts(s_key uuid, facts jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    f jsonb;
BEGIN
    FOR f IN SELECT jsonb_array_elements(facts) LOOP
        CASE f->>'kind'
            WHEN 'session_status' THEN
                PERFORM holdfast.project_status(s_key, f->>'outcome', f->'detail'->>'reason', (f->>'at')::timestamptz);
            WHEN 'session_closed' THEN
                PERFORM holdfast.project_end(s_key, f->>'outcome', f->'detail'->>'reason', (f->>'at')::timestamptz);
            WHEN 'approval_asked' THEN
                PERFORM holdfast.project_ask(s_key, f);
            WHEN 'approval_decided' THEN
                PERFORM holdfast.project_decision(s_key, f);
            WHEN 'call_decided' THEN
                IF f->>'outcome' IN ('deny', 'denied', 'cancelled') THEN
                    PERFORM holdfast.cancel_open_call(s_key, f);
                END IF;
            WHEN 'request_closed' THEN
                PERFORM holdfast.project_end_of_request(s_key, f);
            ELSE
                NULL;
        END CASE;
    END LOOP;
END
$$;

-- An older status never replaces a newer one. An ended session lives again only through a reset of its workflow.
CREATE FUNCTION holdfast.project_status(s_key uuid, new_status text, reason text, at timestamptz) RETURNS void
LANGUAGE sql AS $$
    UPDATE holdfast.session
    SET status = new_status, status_reason = reason, status_at = at, ended_at = NULL
    WHERE session_key = s_key
      AND (status, status_reason, status_at) IS DISTINCT FROM (new_status, reason, at)
      AND (opened_at IS NULL OR status_at <= at) AND (ended_at IS NULL OR ended_at < at)
$$;

-- Nothing asked of an ended session waits for anybody.
CREATE FUNCTION holdfast.project_end(s_key uuid, new_status text, reason text, at timestamptz) RETURNS void
LANGUAGE sql AS $$
    UPDATE holdfast.approval SET state = 'expired' WHERE session_key = s_key AND state = 'pending';
    UPDATE holdfast.session SET status = new_status, status_reason = reason, status_at = at, ended_at = at
    WHERE session_key = s_key AND (ended_at IS NULL OR ended_at <= at)
$$;

-- Asked again later (an ask that expired, a reset workflow) it is pending again, unless an effect consumed it.
CREATE FUNCTION holdfast.project_ask(s_key uuid, f jsonb) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO holdfast.approval AS a (
        session_key, call, digest, effect_id, tool_use_id, tool, tier, preview, asked_at, expires_at, use_within
    )
    VALUES (
        s_key, f->>'call', f->'detail'->>'digest', f->>'effect_id', f->'detail'->>'tool_use_id', f->>'tool',
        f->>'tier', f->'detail'->>'preview', (f->>'at')::timestamptz,
        (f->'detail'->>'expires_at')::timestamptz, (f->'detail'->>'use_within')::interval
    )
    ON CONFLICT (session_key, call, digest) DO UPDATE
    SET state = 'pending', asked_at = excluded.asked_at, expires_at = excluded.expires_at, decision = NULL,
        decided_at = NULL, decided_by = NULL, authenticated = NULL, reason = NULL
    WHERE a.state <> 'consumed' AND a.asked_at < excluded.asked_at
$$;

-- The newest ask of the call, or that of the digest where the fact names it. A decision told before decides
-- nothing again: the call may have been asked about anew. A call that may not run any more is cancelled.
CREATE FUNCTION holdfast.project_decision(s_key uuid, f jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE holdfast.approval a
    SET state = f->>'outcome', decision = f->'detail'->>'decision', decided_at = (f->>'at')::timestamptz,
        decided_by = coalesce(f->'detail'->>'by', f->>'actor'), reason = f->'detail'->>'reason',
        authenticated = coalesce((f->'detail'->>'authenticated')::boolean, false),
        use_within = coalesce((f->'detail'->>'use_within')::interval, a.use_within)
    WHERE a.session_key = s_key AND a.call = f->>'call' AND a.state = 'pending'
      AND NOT EXISTS (
          SELECT FROM holdfast.entry told WHERE told.session_key = s_key AND told.fact_key = f->>'key'
      )
      AND a.digest = coalesce(f->'detail'->>'digest', (
          SELECT o.digest FROM holdfast.approval o
          WHERE o.session_key = s_key AND o.call = f->>'call' ORDER BY o.asked_at DESC LIMIT 1
      ));
    IF FOUND AND f->>'outcome' <> 'approved' THEN
        PERFORM holdfast.cancel_open_call(s_key, f);
    END IF;
END
$$;

-- The call will not run: a tombstone, unless an attempt was made. Named by effect id, else by call and digest.
CREATE FUNCTION holdfast.cancel_open_call(s_key uuid, f jsonb) RETURNS void
LANGUAGE sql AS $$
    -- Nobody is asked about it any more.
    UPDATE holdfast.approval SET state = 'expired', reason = f->'detail'->>'reason'
    WHERE session_key = s_key AND call = f->>'call' AND state = 'pending'
      AND digest = coalesce(f->'detail'->>'digest', digest);
    UPDATE holdfast.effect e
    SET state = 'CANCELLED', settled_at = clock_timestamp(),
        outcome = convert_to(json_build_object(
            'status', CASE WHEN f->>'outcome' = 'cancelled' THEN 'cancelled' ELSE 'denied' END,
            'code', 'denied', 'text', coalesce(f->'detail'->>'reason', f->'detail'->>'text', 'This call was denied.')
        )::text, 'UTF8')
    WHERE e.session_key = s_key AND e.state = 'OPEN' AND e.kind = 'call' AND NOT e.doubt
      AND (e.effect_id = f->>'effect_id'
           OR (f->>'effect_id' IS NULL AND e.call = f->>'call'
               AND e.fingerprint = coalesce(f->'detail'->>'digest', e.fingerprint)))
$$;

-- Append facts born elsewhere. What only the ledger's own functions may say is refused.
CREATE FUNCTION holdfast.append_all(s_key uuid, facts jsonb, digests bytea[], bodies bytea[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    f jsonb;
    n bigint;
BEGIN
    FOR f, n IN SELECT * FROM jsonb_array_elements(facts) WITH ORDINALITY LOOP
        IF f->>'key' LIKE '@%' OR f->>'kind' IN (
            'session_opened', 'model_intent', 'model_turn', 'effect_intent', 'effect_outcome', 'effect_resolved',
            'saga_opened', 'saga_closed', 'saga_unwinding', 'saga_moved', 'saga_resolved', 'saga_build_waived',
            'tool_disabled',
            'tool_enabled', 'ledger_exported', 'contents_read', 'keys_rotated', 'session_erased', 'session_archived'
        ) THEN
            RAISE EXCEPTION USING ERRCODE = 'HF006', MESSAGE = format(
                'a fact "%s" of kind %s may only come from the ledger itself', f->>'key', f->>'kind'
            );
        END IF;
        PERFORM holdfast.append(
            s_key, f->>'key', digests[n], f->>'kind', (f->>'at')::timestamptz, bodies[n],
            turn => (f->>'turn')::integer, call => f->>'call', effect_id => f->>'effect_id',
            saga_id => f->>'saga_id', tool => f->>'tool', tier => f->>'tier', outcome => f->>'outcome',
            actor => f->>'actor', args_digest => f->'detail'->>'digest'
        );
        IF f->>'kind' = 'request_closed' THEN
            PERFORM holdfast.say_saga_closed(s_key, f->>'saga_id');
        END IF;
    END LOOP;
END
$$;

CREATE FUNCTION holdfast.append_facts(p_session_id text, p_facts jsonb, p_digests bytea[], p_bodies bytea[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    s_key uuid := holdfast.key_of(p_session_id, p_bodies[1]);
BEGIN
    PERFORM holdfast.project_facts(s_key, p_facts);
    PERFORM holdfast.append_all(s_key, p_facts, p_digests, p_bodies);
END
$$;

-- A request that ended otherwise than by its last turn's commit: what never ran is cancelled, and its saga gets
-- the end that what stands allows, unless it has one, or is being unwound. Told again it changes nothing.
CREATE FUNCTION holdfast.project_end_of_request(s_key uuid, f jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    g holdfast.saga;
BEGIN
    SELECT * INTO g FROM holdfast.saga WHERE id = f->>'saga_id' AND session_key = s_key FOR UPDATE;
    IF NOT FOUND OR g.state = 'COMMITTED' OR g.request_ended IS NOT NULL THEN
        RETURN;
    END IF;
    UPDATE holdfast.saga SET request_ended = f->>'outcome' WHERE id = g.id;
    IF g.state = 'OPEN' THEN
        PERFORM holdfast.cancel_open_effects(g.id);
        PERFORM holdfast.end_saga(
            g.id, holdfast.end_of_open_saga(g.id, f->>'outcome'),
            coalesce(nullif(f->'detail'->>'reason', ''), format('the request ended %s', f->>'outcome'))
        );
    END IF;
    UPDATE holdfast.session SET status = 'idle', status_reason = f->'detail'->>'reason'
    WHERE session_key = s_key AND ended_at IS NULL;
END
$$;

-- The workflow opens its session. The same chain of runs again changes nothing; another one is refused. Returns the
-- session's wrapped key; null where its contents stand in clear. The opening entry says what the session's row says.
CREATE FUNCTION holdfast.open_session(
    p jsonb, p_catalogue bytea, p_body bytea, p_facts jsonb, p_digests bytea[], p_bodies bytea[],
    OUT catalogue_digest text, OUT key_id text, OUT master_id text, OUT wrapped bytea
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    s holdfast.session;
BEGIN
    PERFORM holdfast.add_session(p);
    SELECT * INTO STRICT s FROM holdfast.session WHERE id = p->>'session_id' FOR UPDATE;
    IF s.key_id IS NULL AND (p->>'sealed_only')::boolean THEN
        RAISE EXCEPTION USING ERRCODE = 'HF008', MESSAGE = format(
            'the session "%s" was started in clear, and encryption is required here', s.id
        );
    ELSIF cardinality(p_bodies) > 0 THEN
        PERFORM holdfast.key_of(s.id, p_bodies[1]);
    END IF;
    IF s.first_run_id IS NOT NULL AND s.first_run_id <> p->>'first_run_id' THEN
        RAISE EXCEPTION USING ERRCODE = 'HF002', MESSAGE = format(
            'the session id "%s" belongs to another workflow (first run %s)', s.id, s.first_run_id
        );
    END IF;
    IF s.first_run_id IS NULL THEN
        INSERT INTO holdfast.catalogue (digest, body) VALUES (p->>'catalogue_digest', p_catalogue)
        ON CONFLICT DO NOTHING;
        UPDATE holdfast.session SET
            first_run_id = p->>'first_run_id', task_queue = p->>'task_queue', agent = p->>'agent', model = p->>'model',
            catalogue_digest = p->>'catalogue_digest', requested_by = p->>'requested_by',
            on_behalf_of = p->>'on_behalf_of', tenant = p->>'tenant', labels = p->'labels',
            roles = ARRAY(SELECT jsonb_array_elements_text(p->'roles')),
            status = 'running', status_at = (p->>'started_at')::timestamptz, opened_at = clock_timestamp()
        WHERE id = s.id;
    END IF;
    PERFORM holdfast.project_facts(s.session_key, p_facts);
    IF s.first_run_id IS NULL THEN
        PERFORM holdfast.append(
            s.session_key, '@opened', sha256(p_body), 'session_opened', (p->>'started_at')::timestamptz, p_body,
            actor => p->>'requested_by'
        );
    END IF;
    PERFORM holdfast.append_all(s.session_key, p_facts, p_digests, p_bodies);
    SELECT k.key_id, k.master_id, k.wrapped INTO key_id, master_id, wrapped
    FROM holdfast.session_key k WHERE k.session_key = s.session_key;
    catalogue_digest := CASE WHEN s.first_run_id IS NULL THEN p->>'catalogue_digest' ELSE s.catalogue_digest END;
END
$$;

-- What was never dispatched will not be: a tombstone. An undo waits for its unwinder all the same.
CREATE FUNCTION holdfast.cancel_open_effects(of_saga text) RETURNS void
LANGUAGE sql AS $$
    UPDATE holdfast.effect SET state = 'CANCELLED', settled_at = clock_timestamp()
    WHERE saga_id = of_saga AND state = 'OPEN' AND NOT doubt AND kind <> 'undo'
$$;

-- Give a saga its end; `say_saga_closed` tells the chain, once its head may be locked.
CREATE FUNCTION holdfast.end_saga(ended_saga text, new_state text, why text) RETURNS void
LANGUAGE sql AS $$
    UPDATE holdfast.saga
    SET state = new_state, reason = why, moves = moves + 1,
        closed_at = CASE WHEN new_state IN ('COMMITTED', 'ABORTED') THEN clock_timestamp() END
    WHERE id = ended_saga
$$;

CREATE FUNCTION holdfast.say_saga_closed(s_key uuid, ended_saga text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    g holdfast.saga;
    body bytea;
BEGIN
    SELECT * INTO g FROM holdfast.saga
    WHERE id = ended_saga AND session_key = s_key AND state IN ('COMMITTED', 'ABORTED', 'HELD', 'STUCK');
    IF NOT FOUND THEN
        RETURN;
    END IF;
    body := convert_to(json_build_object('reason', g.reason, 'state', g.state)::text, 'UTF8');
    PERFORM holdfast.append(
        s_key, format('@saga/%s/%s/%s', g.id, g.moves, g.state), sha256(body), 'saga_closed', clock_timestamp(),
        body, saga_id => g.id, outcome => g.state
    );
END
$$;

-- How a saga that is still open when its session ends may end: what may be running or landed is held for a
-- person; kept work commits; nothing standing is aborted.
CREATE FUNCTION holdfast.end_of_open_saga(open_saga text, session_status text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN bool_or(e.state IN ('CLAIMED', 'UNKNOWN') OR e.doubt AND e.state = 'OPEN') THEN 'HELD'
        WHEN session_status = 'completed' THEN 'COMMITTED'
        WHEN bool_or(e.state = 'DONE' AND e.tier <> 'read') THEN 'HELD'
        ELSE 'ABORTED'
    END
    FROM holdfast.effect e WHERE e.saga_id = open_saga AND e.kind = 'call'
$$;

-- A session whose workflow refused to open it: the client's announcement must not look alive for ever.
CREATE FUNCTION holdfast.refuse_session(p_session_id text, p_reason text, p_at timestamptz) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
    UPDATE holdfast.session SET status = 'failed', status_reason = p_reason, status_at = p_at, ended_at = p_at
    WHERE id = p_session_id AND first_run_id IS NULL
$$;

CREATE FUNCTION holdfast.close_session(
    p jsonb, p_body bytea, p_facts jsonb, p_digests bytea[], p_bodies bytea[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    s_key uuid := holdfast.key_of(p->>'session_id', p_body);
    saga holdfast.saga;
    ended timestamptz := (p->>'at')::timestamptz;
    why text := coalesce(nullif(p->>'reason', ''), format('the session ended %s', p->>'status'));
BEGIN
    SELECT * INTO saga FROM holdfast.saga
    WHERE id = p->>'saga_id' AND session_key = s_key AND state = 'OPEN' FOR UPDATE;
    IF saga.id IS NOT NULL THEN
        PERFORM holdfast.cancel_open_effects(saga.id);
        UPDATE holdfast.saga g SET request_ended = p->>'status' WHERE g.id = p->>'saga_id';
        PERFORM holdfast.end_saga(saga.id, holdfast.end_of_open_saga(saga.id, p->>'status'), why);
    END IF;
    PERFORM holdfast.project_facts(s_key, p_facts);
    PERFORM holdfast.project_end(s_key, p->>'status', nullif(p->>'reason', ''), ended);
    PERFORM holdfast.append_all(s_key, p_facts, p_digests, p_bodies);
    PERFORM holdfast.say_saga_closed(s_key, p->>'saga_id');
    PERFORM holdfast.append(
        s_key, '@closed/' || holdfast.microseconds(ended), sha256(p_body), 'session_closed', ended, p_body, outcome => p->>'status'
    );
END
$$;
