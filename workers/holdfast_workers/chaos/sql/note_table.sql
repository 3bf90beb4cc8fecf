CREATE SCHEMA chaos;
-- What the transactional tool wrote. Nothing here keeps an intent from being carried out twice: that is on trial.
CREATE TABLE chaos.note (id bigint GENERATED ALWAYS AS IDENTITY, intent text NOT NULL, effect_id text NOT NULL);
GRANT USAGE ON SCHEMA chaos TO holdfast_app;
GRANT SELECT, INSERT ON chaos.note TO holdfast_app;
