-- The roles and logins of a database run elsewhere. Run it once, in an empty database, as a login that may create
-- roles; docs/operations.md shows how, and docker-compose.yml does it for its own database. After it nothing of
-- Holdfast needs a superuser or CREATEROLE. (`holdfast up` makes the logins of its own database by itself.)

\set ON_ERROR_STOP on
\getenv migrate_password HOLDFAST_MIGRATE_PASSWORD
\getenv app_password HOLDFAST_APP_PASSWORD
\getenv auditor_password HOLDFAST_AUDITOR_PASSWORD

BEGIN;

CREATE ROLE holdfast_owner NOLOGIN;
CREATE ROLE holdfast_app NOLOGIN;
CREATE ROLE holdfast_auditor NOLOGIN;

-- HOLDFAST_MIGRATE_DSN: `holdfast db migrate` alone.
CREATE ROLE holdfast_migrate_login LOGIN PASSWORD :'migrate_password' IN ROLE holdfast_owner;
GRANT CREATE ON DATABASE :"DBNAME" TO holdfast_migrate_login;

-- HOLDFAST_DSN: workers and people. It can append to the ledger, never change it.
CREATE ROLE holdfast_app_login LOGIN PASSWORD :'app_password' IN ROLE holdfast_app;

-- Those who read and verify the record, and do nothing else.
CREATE ROLE holdfast_auditor_login LOGIN PASSWORD :'auditor_password' IN ROLE holdfast_auditor;

COMMIT;
