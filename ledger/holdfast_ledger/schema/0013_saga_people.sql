-- compatible from: 1
-- Sagas that code defines: opened and moved by their forward side. And what people say of any saga that cannot go on.

-- An earlier run's steps that failed are tried again under a new key: past its pivot a saga can only go forward.
CREATE FUNCTION holdfast.reopen_failed_steps(of_saga text) RETURNS void
LANGUAGE sql AS $$
    UPDATE holdfast.effect SET
        state = 'OPEN', doubt = false, attempts_used = 0, first_claimed_at = NULL, settled_at = NULL,
        settled_order = NULL, keys_refused = keys_refused + CASE effect.state WHEN 'FAILED' THEN 1 ELSE 0 END
    FROM holdfast.saga g
    WHERE g.id = of_saga AND saga_id = of_saga AND kind = 'call' AND effect.state IN ('FAILED', 'CANCELLED')
      AND settled_at > g.passed_pivot_at  -- with what failed before, its body has come to terms
$$;

-- A SagaRun opens its saga, or one that an earlier run left. `code`: why it cannot.
CREATE FUNCTION holdfast.open_saga(p jsonb, p_catalogue bytea, p_input bytea, p_salt bytea, p_body bytea)
RETURNS SETOF holdfast.moved
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    g holdfast.saga;
    m holdfast.moved;
BEGIN
    SELECT * INTO g FROM holdfast.saga WHERE id = p->>'session_id' FOR UPDATE;
    m := holdfast.not_to_be_opened(p, g);
    IF m.code IS NOT NULL THEN
        RETURN NEXT m;
        RETURN;
    ELSIF g.id IS NULL AND holdfast.add_session(p) THEN
        PERFORM holdfast.make_saga(p, p_catalogue, p_input, p_salt, p_body);
    ELSIF g.id IS NULL THEN
        RETURN NEXT ROW('reused', format('the id "%s" was used before, for a session', p->>'session_id'), NULL, NULL)
            ::holdfast.moved;
        RETURN;
    ELSIF g.owner_run IS DISTINCT FROM p->>'run_id' AND g.state IN ('OPEN', 'COMMITTING', 'FORWARD_PENDING') THEN
        UPDATE holdfast.saga SET owner_run = p->>'run_id' WHERE id = g.id;
        IF g.state IN ('COMMITTING', 'FORWARD_PENDING') OR g.state = 'OPEN' AND g.passed_pivot_at IS NOT NULL THEN
            PERFORM holdfast.reopen_failed_steps(g.id);
        END IF;
        PERFORM holdfast.say_saga(
            g.session_key, g.id, 'saga_moved', 'run/' || (p->>'run_id'), 'taken_up',
            convert_to(json_build_object('run', p->>'run_id', 'state', g.state)::text, 'UTF8')
        );
    END IF;
    RETURN QUERY SELECT NULL::text, NULL::text, o.state, o.epoch FROM holdfast.saga o WHERE o.id = p->>'session_id';
END
$$;

-- Why a saga cannot be opened: its id is another's, or its body was changed under a version that is in use. Of an
-- open saga with another version nothing is compared: it goes on with its own.
CREATE FUNCTION holdfast.not_to_be_opened(p jsonb, g holdfast.saga) RETURNS holdfast.moved
LANGUAGE plpgsql STABLE AS $$
DECLARE
    other text;
BEGIN
    IF g.id IS NOT NULL AND g.name IS DISTINCT FROM p->>'name' THEN
        RETURN ROW('reused', format(
            'the id "%s" was used before, for saga "%s"', g.id, g.name
        ), g.state, g.epoch)::holdfast.moved;
    END IF;
    SELECT o.id INTO other FROM holdfast.saga o
    WHERE o.name = p->>'name' AND o.version = p->>'version' AND o.source <> p->>'source'
      AND (g.id IS NULL OR g.version = o.version)
      AND (o.state IN ('OPEN', 'COMMITTING', 'FORWARD_PENDING') OR o.state = 'HELD' AND o.goal IS NULL) LIMIT 1;
    RETURN CASE WHEN FOUND THEN ROW('changed', format(
        'the body of saga "%s" is not the one that version %s is open with (saga %s): give the new one a new version',
        p->>'name', p->>'version', other
    ), g.state, g.epoch)::holdfast.moved END;
END
$$;

CREATE FUNCTION holdfast.make_saga(p jsonb, p_catalogue bytea, p_input bytea, p_salt bytea, p_body bytea)
RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    s_key uuid := holdfast.key_of(p->>'session_id', p_body);
BEGIN
    INSERT INTO holdfast.catalogue (digest, body) VALUES (p->>'catalogue_digest', p_catalogue)
    ON CONFLICT DO NOTHING;
    UPDATE holdfast.session SET
        kind = 'saga', catalogue_digest = p->>'catalogue_digest', first_run_id = p->>'run_id',
        task_queue = p->>'task_queue',
        roles = ARRAY(SELECT jsonb_array_elements_text(p->'roles')),
        status_at = (p->>'started_at')::timestamptz, opened_at = clock_timestamp()
    WHERE session_key = s_key;
    INSERT INTO holdfast.saga (
        id, session_key, request, name, version, source, owner, owner_run, parent, input, salt
    )
    VALUES (
        p->>'session_id', s_key, 0, p->>'name', p->>'version', p->>'source', p->>'session_id', p->>'run_id',
        p->>'parent', p_input, p_salt
    );
    PERFORM holdfast.say_saga(s_key, p->>'session_id', 'saga_opened', 'opened', 'OPEN', p_body, p->>'requested_by');
END
$$;

-- The forward side of a code-defined saga moves it. Not COMMITTED while anything of it is in doubt: then it is HELD.
CREATE FUNCTION holdfast.move_saga(p jsonb, p_result bytea, p_facts jsonb, p_digests bytea[], p_bodies bytea[])
RETURNS SETOF holdfast.moved
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    s_key uuid := holdfast.key_of(p->>'session_id');
    g holdfast.saga;
    wanted text := p->>'state';
    why text := nullif(p->>'reason', '');
    doubtful text;
    moves boolean;
BEGIN
    SELECT * INTO g FROM holdfast.saga WHERE id = p->>'saga_id' AND session_key = s_key FOR UPDATE;
    moves := coalesce(
        g.state IN ('OPEN', 'COMMITTING', 'FORWARD_PENDING') AND g.epoch = (p->>'epoch')::integer
        AND wanted IN ('COMMITTING', 'COMMITTED', 'FORWARD_PENDING', 'HELD') AND wanted <> g.state, false
    );
    IF moves AND wanted = 'COMMITTED' THEN
        SELECT e.call INTO doubtful FROM holdfast.effect e
        WHERE e.saga_id = g.id AND e.kind = 'call' AND e.tier <> 'read'
          AND (e.state IN ('CLAIMED', 'UNKNOWN') OR e.state = 'OPEN' AND e.doubt) LIMIT 1;
        IF FOUND THEN
            wanted := 'HELD';
            why := format('nobody knows whether step %s happened', doubtful);
        END IF;
    END IF;
    IF moves AND wanted = 'COMMITTED' THEN
        PERFORM holdfast.cancel_open_effects(g.id);
    END IF;
    IF moves THEN
        UPDATE holdfast.saga SET
            result = coalesce(p_result, result),
            passed_pivot_at = CASE wanted
                WHEN 'COMMITTING' THEN coalesce(passed_pivot_at, clock_timestamp()) ELSE passed_pivot_at
            END
        WHERE id = g.id;
        PERFORM holdfast.end_saga(g.id, wanted, why);
    END IF;
    PERFORM holdfast.project_facts(s_key, p_facts);
    IF moves THEN
        PERFORM holdfast.show_saga(g.id);
    END IF;
    PERFORM holdfast.append_all(s_key, p_facts, p_digests, p_bodies);
    IF moves AND wanted IN ('COMMITTED', 'HELD') THEN
        PERFORM holdfast.say_saga_closed(s_key, g.id);
    ELSIF moves THEN
        PERFORM holdfast.say_saga(
            s_key, g.id, 'saga_moved', format('moved/%s', g.moves + 1), wanted,
            convert_to(json_build_object('reason', why, 'state', wanted)::text, 'UTF8')
        );
    END IF;
    RETURN QUERY SELECT NULL::text, NULL::text, o.state, o.epoch FROM holdfast.saga o WHERE o.id = g.id;
END
$$;

-- Leave a saga to a person, unless it has moved on.
CREATE FUNCTION holdfast.hold_saga(p jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    g holdfast.saga;
BEGIN
    SELECT * INTO g FROM holdfast.saga
    WHERE id = p->>'saga_id' AND state = p->>'expected'
      AND state IN ('OPEN', 'COMMITTING', 'UNWINDING', 'FORWARD_PENDING') FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM holdfast.end_saga(g.id, 'HELD', p->>'reason');
    PERFORM holdfast.show_saga(g.id);
    PERFORM holdfast.say_saga_closed(g.session_key, g.id);
    RETURN true;
END
$$;

-- Why a person may not do this with a saga; null where it may be done.
CREATE FUNCTION holdfast.not_to_be_resolved(g holdfast.saga, what text, of_effect text) RETURNS holdfast.moved
LANGUAGE plpgsql STABLE AS $$
DECLARE
    e record;
    said text;
BEGIN
    IF what IN ('unwind', 'abort') THEN
        RETURN holdfast.not_to_be_unwound(g);
    ELSIF g.id IS NULL THEN
        RETURN ROW('missing', 'there is no such saga', NULL, NULL)::holdfast.moved;
    ELSIF g.state NOT IN ('HELD', 'STUCK') AND NOT (g.state = 'FORWARD_PENDING' AND what IN ('retry', 'keep')) THEN
        RETURN ROW('not_held', format('saga %s is %s: it waits for nobody', g.id, g.state), g.state, g.epoch)
            ::holdfast.moved;
    ELSIF what IN ('edit', 'mark_done', 'waive') THEN
        SELECT o.call, o.tool, o.state, u.state AS undo_state INTO e
        FROM holdfast.effect o LEFT JOIN holdfast.effect u ON u.undo_of = o.effect_id
        WHERE o.effect_id = of_effect AND o.saga_id = g.id AND o.kind = 'call';
        said := CASE
            WHEN NOT FOUND THEN format('saga %s has no step %s', g.id, coalesce(of_effect, 'named'))
            WHEN e.state NOT IN ('DONE', 'UNKNOWN') THEN format('step %s %s does not stand', e.call, e.tool)
            WHEN e.undo_state = 'DONE' THEN format('step %s %s was undone already', e.call, e.tool)
            WHEN e.undo_state = 'CLAIMED' THEN format('step %s %s is being undone', e.call, e.tool)
        END;
        RETURN CASE WHEN said IS NOT NULL THEN ROW('step', said, g.state, g.epoch)::holdfast.moved END;
    ELSIF what = 'retry' AND g.goal IS NULL AND g.name IS NULL THEN
        RETURN ROW('nothing', format('nothing of saga %s was tried: say unwind or keep', g.id), g.state, g.epoch)
            ::holdfast.moved;
    ELSIF what = 'keep' THEN
        RETURN holdfast.not_to_be_kept(g);
    ELSIF what <> 'retry' THEN
        RETURN ROW('unknown', format('"%s" is no resolution', what), g.state, g.epoch)::holdfast.moved;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION holdfast.not_to_be_kept(g holdfast.saga) RETURNS holdfast.moved
LANGUAGE plpgsql STABLE AS $$
DECLARE
    step text;
BEGIN
    SELECT e.call || ' ' || e.tool INTO step FROM holdfast.effect e
    WHERE e.saga_id = g.id AND e.kind = 'call' AND e.tier <> 'read' AND e.waived IS NULL
      AND (e.state IN ('CLAIMED', 'UNKNOWN') OR e.state = 'OPEN' AND e.doubt) LIMIT 1;
    IF FOUND THEN
        RETURN ROW('in_doubt', format(
            'nobody knows whether %s happened: say so first, or waive it', step
        ), g.state, g.epoch)::holdfast.moved;
    END IF;
    SELECT e.call || ' ' || e.tool INTO step
    FROM holdfast.effect e JOIN holdfast.effect u ON u.undo_of = e.effect_id AND u.state IN ('DONE', 'CLAIMED', 'UNKNOWN')
    WHERE e.saga_id = g.id LIMIT 1;
    RETURN CASE WHEN FOUND THEN ROW('undone', format(
        '%s was, or may have been, undone already: waive the steps that may stand, and the saga ends without them', step
    ), g.state, g.epoch)::holdfast.moved END;
END
$$;

-- A person says how a saga goes on that cannot by itself; or that one is to be unwound (`abort`). p_undo_args are the
-- arguments that a step's undo shall have. The same resolution again is accepted.
CREATE FUNCTION holdfast.resolve_saga(p jsonb, p_undo_args bytea, p_body bytea)
RETURNS SETOF holdfast.moved
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    s_key uuid := holdfast.key_of(p->>'session_id', p_body);
    g holdfast.saga;
    m holdfast.moved;
    what text := p->>'what';
    told_as text := 'resolved/' || (p->>'id');
BEGIN
    SELECT * INTO g FROM holdfast.saga WHERE id = p->>'saga_id' AND session_key = s_key FOR UPDATE;
    IF NOT EXISTS (
        SELECT FROM holdfast.entry o
        WHERE o.session_key = s_key AND o.fact_key = format('@saga/%s/%s', g.id, told_as)
    ) THEN
        m := holdfast.not_to_be_resolved(g, what, p->>'effect_id');
        IF m.code IS NOT NULL THEN
            RETURN NEXT m;
            RETURN;
        END IF;
        PERFORM holdfast.apply_resolution(g, p, p_undo_args);
        PERFORM holdfast.show_saga(g.id);
        PERFORM holdfast.say_saga(
            s_key, g.id, 'saga_resolved', told_as, what, p_body, p->>'by', p->>'effect_id'
        );
        PERFORM holdfast.say_saga_closed(s_key, g.id) WHERE what = 'keep';
    END IF;
    RETURN QUERY SELECT NULL::text, NULL::text, o.state, o.epoch FROM holdfast.saga o WHERE o.id = g.id;
END
$$;

CREATE FUNCTION holdfast.apply_resolution(g holdfast.saga, p jsonb, p_undo_args bytea) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    what text := p->>'what';
    why text := p->>'why';
BEGIN
    IF what = 'keep' THEN
        PERFORM holdfast.cancel_open_effects(g.id);
        PERFORM holdfast.end_saga(g.id, 'COMMITTED', why);
        RETURN;
    ELSIF what = 'retry' AND g.goal IS NULL THEN
        UPDATE holdfast.saga SET
            state = CASE WHEN g.passed_pivot_at IS NULL THEN 'OPEN' ELSE 'FORWARD_PENDING' END,
            reason = why, moves = moves + 1
        WHERE id = g.id;
        RETURN;
    ELSIF what = 'retry' THEN
        PERFORM holdfast.retry_undos(g.id);
    ELSIF what = 'edit' THEN
        UPDATE holdfast.effect SET
            undo_args = p_undo_args, undo_tool = p->>'undo_tool', undo_version = p->>'undo_version'
        WHERE effect_id = p->>'effect_id';
        PERFORM holdfast.retry_undos(g.id, p->>'effect_id');
    ELSE
        UPDATE holdfast.effect SET waived = CASE what WHEN 'mark_done' THEN 'undone_by_hand' ELSE 'may_stand' END
        WHERE saga_id = g.id AND kind = 'call' AND (
            effect_id = p->>'effect_id'
            OR what = 'unwind' AND state = 'DONE'
               AND effect_id IN (SELECT jsonb_array_elements_text(coalesce(p->'waive', '[]')))
        );
    END IF;
    IF g.goal = 'unwind' OR what IN ('unwind', 'abort') THEN
        PERFORM holdfast.set_unwinding(g.id, NULL, why);
    END IF;
END
$$;

-- Undos that failed, or that nobody knows of, are tried again: a person says that this is right. One that failed did
-- nothing, so it goes under a new key; of one in doubt the service may still know the key.
CREATE FUNCTION holdfast.retry_undos(of_saga text, of_step text DEFAULT NULL) RETURNS void
LANGUAGE sql AS $$
    UPDATE holdfast.effect SET
        state = 'OPEN', doubt = state = 'UNKNOWN', attempts_used = 0, first_claimed_at = NULL, settled_at = NULL,
        settled_order = NULL, keys_refused = keys_refused + CASE state WHEN 'FAILED' THEN 1 ELSE 0 END
    WHERE saga_id = of_saga AND kind = 'undo' AND state IN ('FAILED', 'UNKNOWN')
      AND undo_of = coalesce(of_step, undo_of);
    UPDATE holdfast.effect SET settle_tried = 0
    WHERE saga_id = of_saga AND kind = 'call' AND state = 'UNKNOWN' AND of_step IS NULL
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA holdfast FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    holdfast.open_saga(jsonb, bytea, bytea, bytea, bytea),
    holdfast.move_saga(jsonb, bytea, jsonb, bytea[], bytea[]),
    holdfast.hold_saga(jsonb),
    holdfast.resolve_saga(jsonb, bytea, bytea)
TO holdfast_app;
