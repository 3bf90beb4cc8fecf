-- compatible from: 1
-- Resets: what stands on a branch of the conversation that a reset of the workflow left.

-- Whether a turn that begins may find something left behind: in a session that was never reset it does not, which two
-- looks into indexes tell.
CREATE FUNCTION holdfast.may_have_left(s_key uuid, c holdfast.claim) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    -- The last turn that has a call, from the end of the index: asked whether there is one, Postgres may go through all.
    RETURN coalesce((
        SELECT e.turn FROM holdfast.effect e WHERE e.session_key = s_key AND e.kind = 'call'
        ORDER BY e.turn DESC, e.call DESC LIMIT 1
    ) >= c.turn, false) OR EXISTS (
        SELECT FROM holdfast.saga g
        WHERE g.session_key = s_key AND g.id <> c.saga_id AND g.state NOT IN ('COMMITTED', 'ABORTED')
    );
END
$$;

-- Effects above tier read, of turns that the claiming branch has not reached yet: only another branch can have run
-- them. Those that stand, or may stand, become a saga of their own, HELD for a person to undo or to keep; until it
-- has its end, no branch of the session goes on. Null where nothing is left behind.
CREATE FUNCTION holdfast.left_behind(s_key uuid, c holdfast.claim) RETURNS holdfast.verdict
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    steps text[];
    names text[];
    waits text;
BEGIN
    SELECT array_agg(e.effect_id ORDER BY e.turn, e.call), array_agg(e.call || ' ' || e.tool ORDER BY e.turn, e.call)
    INTO steps, names
    FROM holdfast.effect e JOIN holdfast.saga g ON g.id = e.saga_id
    WHERE e.session_key = s_key AND e.turn >= c.turn AND e.kind = 'call' AND e.tier <> 'read' AND e.waived IS NULL
      AND NOT g.left_behind
      AND (e.state IN ('DONE', 'CLAIMED', 'UNKNOWN') OR e.state = 'OPEN' AND e.doubt)
      AND NOT EXISTS (SELECT FROM holdfast.effect u WHERE u.undo_of = e.effect_id AND u.state = 'DONE');
    PERFORM holdfast.close_left_sagas(s_key, c, steps, names);
    SELECT g.id INTO waits FROM holdfast.saga g
    WHERE g.session_key = s_key AND g.left_behind AND g.state NOT IN ('COMMITTED', 'ABORTED')
    ORDER BY g.opened_at LIMIT 1;
    RETURN CASE WHEN FOUND THEN holdfast.refused('left_behind', format(
        'effects stand on a branch that a reset left; saga %s holds them: `holdfast saga show %s` says how to undo '
        'or keep them', waits, waits
    )) END;
END
$$;

-- The sagas of the branch that was left: those a person has to do with already stay so; of the others what stands is
-- moved into one saga, and they end with nothing of their own.
CREATE FUNCTION holdfast.close_left_sagas(s_key uuid, c holdfast.claim, steps text[], names text[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    held text := format('%s/left-%s-%s', c.session_id, c.turn, left(c.effect_id, 8));
    moved text[];
    ended text;
BEGIN
    UPDATE holdfast.saga SET left_behind = true
    WHERE id IN (SELECT saga_id FROM holdfast.effect WHERE effect_id = ANY(steps))
      AND state IN ('HELD', 'STUCK', 'UNWINDING');
    SELECT array_agg(e.effect_id) INTO moved
    FROM holdfast.effect e JOIN holdfast.saga g ON g.id = e.saga_id
    WHERE e.effect_id = ANY(steps) AND NOT g.left_behind;
    IF moved IS NOT NULL THEN
        INSERT INTO holdfast.saga (id, session_key, request, state, left_behind, reason)
        VALUES (held, s_key, c.request, 'HELD', true, format(
            'a reset of the session left a branch on which %s stand', array_to_string(names, ', ')
        ));
        UPDATE holdfast.effect SET saga_id = held WHERE effect_id = ANY(moved) OR undo_of = ANY(moved);
    END IF;
    FOR ended IN
        SELECT id FROM holdfast.saga
        WHERE session_key = s_key AND state = 'OPEN' AND id <> c.saga_id AND name IS NULL FOR UPDATE
    LOOP
        PERFORM holdfast.cancel_open_effects(ended);
        PERFORM holdfast.end_saga(ended, 'ABORTED', 'a reset of the session left it');
        PERFORM holdfast.say_saga_closed(s_key, ended);
    END LOOP;
    IF moved IS NOT NULL THEN
        PERFORM holdfast.say_saga(
            s_key, held, 'saga_opened', 'opened', 'HELD',
            convert_to(json_build_object('left_behind', names, 'turn', c.turn)::text, 'UTF8')
        );
        PERFORM holdfast.say_saga_closed(s_key, held);
    END IF;
END
$$;

REVOKE ALL ON FUNCTION
    holdfast.may_have_left(uuid, holdfast.claim), holdfast.left_behind(uuid, holdfast.claim),
    holdfast.close_left_sagas(uuid, holdfast.claim, text[], text[])
FROM PUBLIC;
