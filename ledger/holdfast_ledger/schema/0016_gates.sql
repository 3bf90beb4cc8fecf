-- compatible from: 1
-- What may stop a claim that its saga and its attempts permit: a switch, a breaker, a repetition, a person.

-- Kill switch and breaker, for tools only. Volatile, so that each statement sees what was committed before it got
-- its lock: `disable_tool` locks the switch against every claim, and none slips past it on an older snapshot.
CREATE FUNCTION holdfast.closed_gate(c holdfast.claim, now timestamptz) RETURNS holdfast.verdict
LANGUAGE plpgsql VOLATILE AS $$
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
LANGUAGE sql VOLATILE AS $$
    SELECT (holdfast.refused('breaker', format(
        'the provider of %s asked for patience; it is asked again in %s s', b.name,
        ceil(extract(epoch FROM b.open_until - now))
    ), b.open_until - now)).*
    FROM holdfast.breaker b WHERE b.name = c.service AND b.open_until > now
$$;

-- The same again, under another id: a call of the same semantic key that stands, or may stand, and is not undone.
-- The lock lets two such calls meet here only one after the other.
CREATE FUNCTION holdfast.repeated(c holdfast.claim, wanted text, now timestamptz) RETURNS holdfast.verdict
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    o record;
BEGIN
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
LANGUAGE plpgsql AS $$
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

-- One look for a claim without a decision and a semantic key, which seldom finds anything. Volatile for the same reason
-- as `closed_gate`; a model's claim does not wait for the lock of the kill switch.
CREATE FUNCTION holdfast.may_be_stopped(s_key uuid, c holdfast.claim) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF c.kind = 'model' THEN
        RETURN EXISTS (SELECT FROM holdfast.breaker o WHERE o.name = c.service);
    END IF;
    RETURN EXISTS (SELECT FROM holdfast.kill_switch)
        OR EXISTS (SELECT FROM holdfast.breaker o WHERE o.name IN (c.tool, c.service))
        OR EXISTS (
            SELECT FROM holdfast.approval o
            WHERE o.session_key = s_key AND o.call = c.call AND o.digest = c.fingerprint
        );
END
$$;

-- What stops a claim that its saga and its attempts permit.
CREATE FUNCTION holdfast.stopped(
    s_key uuid, c holdfast.claim, semantic_key text, in_doubt boolean, now timestamptz
) RETURNS holdfast.verdict
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v holdfast.verdict;
BEGIN
    IF c.kind = 'model' THEN
        v := holdfast.busy_model(c, now);
    ELSE
        v := holdfast.closed_gate(c, now);
    END IF;
    IF c.kind = 'call' AND NOT coalesce(c.settles, false) THEN
        -- What unwinds has its authority from before, and waits for the gate alone.
        IF v.verdict IS NULL AND NOT in_doubt THEN  -- of one in doubt its recovery class decides
            v := holdfast.repeated(c, semantic_key, now);
        END IF;
        IF v.verdict IS NULL THEN
            v := holdfast.use_approval(s_key, c, now);
        END IF;
    END IF;
    RETURN v;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA holdfast FROM PUBLIC;
