-- Roles, the two schemas and the list of applied migrations. Runs before the migrations, as the login that
-- migrates, and changes nothing the second time. Needs CREATEROLE only where a role is missing, and CREATE on
-- the database only where a schema is.

DO $bootstrap$
DECLARE
    name text;
    owned_by text;
BEGIN
    IF current_setting('server_version_num')::integer < 180000 THEN
        RAISE EXCEPTION 'this is PostgreSQL %, and the ledger needs 18 or newer', current_setting('server_version');
    END IF;
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'the database has encoding %, and the ledger needs UTF8', current_setting('server_encoding');
    END IF;

    FOREACH name IN ARRAY ARRAY['holdfast_owner', 'holdfast_app', 'holdfast_auditor'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = name);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- roles belong to the whole server: another database's migration was faster
        END;
    END LOOP;

    IF NOT pg_has_role(current_user, 'holdfast_owner', 'SET') THEN
        EXECUTE format('GRANT holdfast_owner TO %I WITH SET TRUE', current_user);
    END IF;

    FOREACH name IN ARRAY ARRAY['holdfast', 'audit'] LOOP
        SELECT pg_get_userbyid(nspowner) INTO owned_by FROM pg_namespace WHERE nspname = name;
        IF NOT FOUND THEN
            EXECUTE format('CREATE SCHEMA %I AUTHORIZATION holdfast_owner', name);
        ELSIF owned_by <> 'holdfast_owner' THEN
            RAISE EXCEPTION 'schema "%" belongs to "%": give the ledger a database of its own', name, owned_by;
        END IF;
    END LOOP;
END
$bootstrap$;

SET LOCAL ROLE holdfast_owner;

ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

CREATE TABLE IF NOT EXISTS holdfast.schema_version (
    version integer PRIMARY KEY,
    name text NOT NULL,
    digest text NOT NULL,           -- sha256 of the file: an applied migration never changes
    compatible_from integer NOT NULL, -- the oldest code that still runs on this schema
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
