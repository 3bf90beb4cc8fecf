-- compatible from: 1
-- Deploys: a build that lacks the code of an open saga may serve all the same, where a person said so.

-- Returns whether there is such a saga. Saying it again is one entry.
CREATE FUNCTION holdfast.waive_build(p jsonb, p_body bytea) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, holdfast, pg_temp AS $$
DECLARE
    g holdfast.saga;
BEGIN
    SELECT * INTO g FROM holdfast.saga WHERE id = p->>'saga_id' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF NOT g.build_waived THEN
        UPDATE holdfast.saga SET build_waived = true WHERE id = g.id;
        PERFORM holdfast.say_saga(
            g.session_key, g.id, 'saga_build_waived', 'build_waived', g.state, p_body, p->>'by'
        );
    END IF;
    RETURN true;
END
$$;

REVOKE ALL ON FUNCTION holdfast.waive_build(jsonb, bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION holdfast.waive_build(jsonb, bytea) TO holdfast_app;
