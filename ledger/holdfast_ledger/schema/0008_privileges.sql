-- compatible from: 1
-- Who may do what. The app reads tables, calls functions, and writes nothing by itself but streaming chunks.
-- Nobody but the owner may change a row of the record, and triggers stop the owner.

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA holdfast FROM PUBLIC;
GRANT USAGE ON SCHEMA holdfast TO holdfast_app, holdfast_auditor;

GRANT SELECT ON
    holdfast.schema_version, holdfast.meta, holdfast.catalogue, holdfast.session, holdfast.content,
    holdfast.message, holdfast.saga, holdfast.effect, holdfast.attempt, holdfast.turn, holdfast.approval,
    holdfast.kill_switch, holdfast.breaker, holdfast.chain, holdfast.entry
TO holdfast_app;
GRANT SELECT, INSERT, DELETE ON holdfast.chunk TO holdfast_app;

GRANT EXECUTE ON FUNCTION
    holdfast.bind(text, text),
    holdfast.register_session(jsonb),
    holdfast.store_content(text, text, bytea),
    holdfast.open_session(jsonb, bytea, bytea, jsonb, bytea[], bytea[]),
    holdfast.refuse_session(text, text, timestamptz),
    holdfast.append_facts(text, jsonb, bytea[], bytea[]),
    holdfast.claim_effect(jsonb, bytea, bytea, bytea, jsonb, bytea[], jsonb, bytea[], bytea[]),
    holdfast.renew_effect(text, integer, interval),
    holdfast.refuse_key(text, integer, interval),
    holdfast.record_effect(jsonb, bytea, bytea, bytea, bytea, bytea, bytea, bytea),
    holdfast.resolve_effect(jsonb, bytea, bytea, bytea, bytea, bytea),
    holdfast.note_probe(text, text),
    holdfast.left_in_doubt(text, boolean, text, timestamptz, text),
    holdfast.disable_tool(jsonb, bytea),
    holdfast.enable_tool(jsonb, bytea),
    holdfast.record_turn(jsonb, bytea, bytea, bytea, jsonb, bytea[], bytea[]),
    holdfast.close_session(jsonb, bytea, jsonb, bytea[], bytea[])
TO holdfast_app;

GRANT USAGE ON SCHEMA audit TO holdfast_app, holdfast_auditor;
GRANT SELECT ON ALL TABLES IN SCHEMA audit TO holdfast_app, holdfast_auditor;
GRANT EXECUTE ON FUNCTION audit.said(bytea, text, text[]), audit.open_part(bytea) TO holdfast_app, holdfast_auditor;

-- An auditor verifies chains: entries, where each chain stands, and which session it belongs to.
GRANT SELECT ON holdfast.entry, holdfast.chain, holdfast.schema_version TO holdfast_auditor;
GRANT SELECT (id, session_key) ON holdfast.session TO holdfast_auditor;
