-- compatible from: 1
-- Tables. Ids are text in C collation, so that a prefix is found by index; what a model or a tool wrote is bytea.
-- Every row of a session hangs on its internal, time-ordered session_key.

-- What a column may say, where its rows are written with every turn: a CHECK of the table would be read anew by every
-- statement that writes a row, and a domain is not.
CREATE DOMAIN holdfast.session_id AS text CHECK (VALUE <> '' AND octet_length(VALUE) <= 1000);
CREATE DOMAIN holdfast.session_kind AS text CHECK (VALUE IN ('session', 'saga', 'operations'));
CREATE DOMAIN holdfast.session_status AS text CHECK (
    VALUE IN ('running', 'idle', 'waiting', 'held', 'closing', 'completed', 'failed', 'aborted')
);
CREATE DOMAIN holdfast.message_role AS text CHECK (VALUE IN ('user', 'assistant', 'results'));
CREATE DOMAIN holdfast.effect_kind AS text CHECK (VALUE IN ('model', 'call', 'undo'));
CREATE DOMAIN holdfast.recovery_class AS text CHECK (
    VALUE IN ('retry', 'idempotent', 'probe', 'operator', 'transactional')
);
CREATE DOMAIN holdfast.effect_state AS text CHECK (
    VALUE IN ('OPEN', 'CLAIMED', 'DONE', 'FAILED', 'UNKNOWN', 'CANCELLED')
);
CREATE DOMAIN holdfast.waiver AS text CHECK (VALUE IN ('may_stand', 'undone_by_hand'));
CREATE DOMAIN holdfast.attempt_state AS text CHECK (
    VALUE IN ('RUNNING', 'DONE', 'FAILED', 'UNKNOWN', 'OPEN', 'EXPIRED', 'SUPERSEDED')
);

CREATE TABLE holdfast.meta (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    cluster_id text,                -- the Temporal this ledger belongs to, set once
    namespace text,
    bound_at timestamptz
);
INSERT INTO holdfast.meta DEFAULT VALUES;

-- What sessions were opened with. Immutable.
CREATE TABLE holdfast.catalogue (
    digest text COLLATE "C" PRIMARY KEY,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE holdfast.session (
    id holdfast.session_id COLLATE "C" PRIMARY KEY,
    session_key uuid NOT NULL UNIQUE DEFAULT uuidv7(),
    kind holdfast.session_kind NOT NULL DEFAULT 'session', -- whose chain it is
    agent text NOT NULL,            -- of a code-defined saga: '@saga/NAME'
    model text,
    requested_by text NOT NULL,
    on_behalf_of text,
    roles text[] NOT NULL DEFAULT '{}',
    tenant text,
    labels jsonb NOT NULL DEFAULT '{}',
    status holdfast.session_status NOT NULL DEFAULT 'running',
    status_reason text,
    status_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    key_id text,                    -- of its data key; null: its contents are stored in clear, for ever
    start_digest text,              -- null for a session that no client announced
    catalogue_digest text REFERENCES holdfast.catalogue,
    first_run_id text,              -- null until its workflow opened it
    task_queue text,                -- whose workers have its code
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    opened_at timestamptz,
    ended_at timestamptz,
    turns integer NOT NULL DEFAULT 0,
    calls integer NOT NULL DEFAULT 0,
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    cache_read_tokens bigint NOT NULL DEFAULT 0,
    cache_write_tokens bigint NOT NULL DEFAULT 0,
    usd numeric DEFAULT 0,          -- null once any price was unknown
    lost_attempts integer NOT NULL DEFAULT 0, -- of model turns: billed perhaps, and nobody told how much
    assumed_tokens bigint NOT NULL DEFAULT 0, -- what budgets assume for them, beyond the totals above
    assumed_usd numeric DEFAULT 0
) WITH (fillfactor = 75);           -- totals are updated in place
CREATE INDEX session_by_status ON holdfast.session (status, session_key);
CREATE INDEX session_living ON holdfast.session (session_key) WHERE ended_at IS NULL AND kind = 'session';
CREATE INDEX session_by_agent ON holdfast.session (agent, session_key);
CREATE INDEX session_by_tenant ON holdfast.session (tenant, session_key) WHERE tenant IS NOT NULL;
CREATE INDEX session_by_label ON holdfast.session USING gin (labels jsonb_path_ops);

-- Data keys of sessions, wrapped by master keys that Postgres never sees. Erasure deletes the row.
CREATE TABLE holdfast.session_key (
    session_key uuid PRIMARY KEY REFERENCES holdfast.session (session_key),
    key_id text NOT NULL,
    master_id text NOT NULL,
    wrapped bytea NOT NULL,
    wrapped_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Bodies of messages by digest, per session: each session seals its own. A sealed body names its key itself.
CREATE TABLE holdfast.content (
    session_key uuid NOT NULL REFERENCES holdfast.session (session_key),
    digest text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (session_key, digest)
);

-- The transcript: each message names the head before it, so that branches of a reset live side by side.
CREATE TABLE holdfast.message (
    session_key uuid NOT NULL,
    head text COLLATE "C" NOT NULL,
    parent text COLLATE "C" NOT NULL,
    role holdfast.message_role NOT NULL,
    digest text COLLATE "C" NOT NULL,
    turn integer NOT NULL,
    message_id text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (session_key, head),
    FOREIGN KEY (session_key, digest) REFERENCES holdfast.content
);

CREATE TABLE holdfast.saga (
    id text COLLATE "C" PRIMARY KEY,
    session_key uuid NOT NULL REFERENCES holdfast.session (session_key),
    request integer NOT NULL,
    state text NOT NULL DEFAULT 'OPEN' CHECK (state IN (
        'OPEN', 'COMMITTING', 'UNWINDING', 'COMMITTED', 'ABORTED', 'HELD', 'STUCK', 'FORWARD_PENDING'
    )),
    epoch integer NOT NULL DEFAULT 1, -- raised by an unwind: older claims are refused
    moves integer NOT NULL DEFAULT 0, -- counts its changes of state
    reason text,
    goal text CHECK (goal = 'unwind'), -- once an unwind began: whatever is settled later, it goes on
    unwinder text,                  -- run of the workflow that unwinds it
    passed_pivot_at timestamptz,    -- it can only go forward from there
    name text,                      -- of one that code defines; null: a session's request opened it
    version text,
    source text,                    -- digest of its body's source
    owner text,                     -- workflow id of its forward side, where that is not the session
    owner_run text,
    parent text,                    -- the session that started it
    input bytea,                    -- what it was started with
    salt bytea,                     -- of the digests of its steps' arguments
    result bytea,
    left_behind boolean NOT NULL DEFAULT false, -- what it did stands on a branch that a reset left
    build_waived boolean NOT NULL DEFAULT false, -- workers may serve that lack its code: a person said so
    request_ended text,             -- how: completed, failed or aborted; a doubt settled later is judged by it
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at timestamptz
);
CREATE INDEX saga_by_session ON holdfast.saga (session_key);
CREATE INDEX saga_unfinished_of ON holdfast.saga (session_key) WHERE state NOT IN ('COMMITTED', 'ABORTED');
CREATE INDEX saga_unfinished ON holdfast.saga (state, opened_at) WHERE state NOT IN ('COMMITTED', 'ABORTED');
CREATE INDEX saga_by_name ON holdfast.saga (name, version) WHERE name IS NOT NULL;

-- One row per effect: what it is, who holds it, how it ended.
CREATE TABLE holdfast.effect (
    effect_id text COLLATE "C" PRIMARY KEY,
    session_key uuid NOT NULL REFERENCES holdfast.session (session_key),
    kind holdfast.effect_kind NOT NULL,
    turn integer NOT NULL,
    call text COLLATE "C",          -- TURN.INDEX, or the step of a code-defined saga
    tool_use_id text,
    tool text,
    tool_version text,
    tier text,
    recovery holdfast.recovery_class NOT NULL,
    key_ttl interval,
    semantic_key text COLLATE "C",  -- digest of tool, scope and what the tool says makes two calls the same
    undo_of text COLLATE "C",       -- for kind undo: the effect it compensates
    fingerprint text NOT NULL,
    preview text,
    saga_id text COLLATE "C" NOT NULL REFERENCES holdfast.saga,
    planned_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    state holdfast.effect_state NOT NULL DEFAULT 'OPEN',
    token integer NOT NULL DEFAULT 0, -- fences attempts; the number of the last one
    worker text,
    nonce text,                     -- of the claim that holds it: asking again, its answer lost, is the same claim
    lease_until timestamptz,        -- on the database's clock
    first_claimed_at timestamptz,   -- the provider's memory of our key starts here
    attempts_used integer NOT NULL DEFAULT 0,
    attempts_budget integer NOT NULL DEFAULT 0, -- 0 is unlimited
    doubt boolean NOT NULL DEFAULT false, -- an attempt that never reported may have landed
    keys_refused integer NOT NULL DEFAULT 0, -- its service refuses so many keys of it for good
    decision text,                  -- the person's decision it consumed
    probes integer NOT NULL DEFAULT 0, -- how often its service was asked while the outcome was UNKNOWN
    probed_at timestamptz,
    probe_said text,

    authorization_body bytea,
    args bytea,
    args_salt bytea,
    outcome bytea,                  -- of the last attempt that reported, final once settled
    result bytea,
    shown bytea,
    undo_tool text,
    undo_version text,
    undo_args bytea,
    pivot boolean NOT NULL DEFAULT false, -- once it is DONE its saga is past its pivot
    settle_tried integer NOT NULL DEFAULT 0, -- how often an unwind tried to find out what became of it
    waived holdfast.waiver,         -- what a person said instead of its undo
    committed_saga boolean NOT NULL DEFAULT false, -- this model turn committed its saga
    latency_us bigint,
    usd numeric,
    settled_at timestamptz,
    settled_order bigint,           -- an unwind goes from the highest down
    CHECK ((state = 'CLAIMED') = (lease_until IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX effect_by_session ON holdfast.effect (session_key, turn, call);
CREATE INDEX effect_by_saga ON holdfast.effect (saga_id);
CREATE INDEX effect_unknown ON holdfast.effect (settled_at) WHERE state = 'UNKNOWN';
CREATE INDEX effect_by_semantic_key ON holdfast.effect (semantic_key) WHERE semantic_key IS NOT NULL;
CREATE INDEX effect_by_undone ON holdfast.effect (undo_of) WHERE undo_of IS NOT NULL;
CREATE SEQUENCE holdfast.settled_order;

-- One row per attempt, numbered by the effect's fencing token.
CREATE TABLE holdfast.attempt (
    effect_id text COLLATE "C" NOT NULL REFERENCES holdfast.effect,
    token integer NOT NULL,
    worker text NOT NULL,
    claimed_at timestamptz NOT NULL,
    ended_at timestamptz,
    state holdfast.attempt_state NOT NULL DEFAULT 'RUNNING',
    reported text,                  -- what it said after it had lost the effect; changed nothing
    reported_at timestamptz,
    latency_us bigint,
    cost_unknown boolean NOT NULL DEFAULT false, -- of a model turn: billed perhaps, nobody told how much
    evidence bytea,
    PRIMARY KEY (effect_id, token)
);

-- One row per recorded model turn: what it used and cost.
CREATE TABLE holdfast.turn (
    effect_id text COLLATE "C" PRIMARY KEY REFERENCES holdfast.effect,
    session_key uuid NOT NULL,
    turn integer NOT NULL,
    head text NOT NULL,             -- before the assistant message
    next_head text NOT NULL,
    digest text NOT NULL,
    stop_reason text,
    model_asked text NOT NULL,
    model_answered text,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    usd numeric,                    -- null: price unknown
    lost_attempts integer NOT NULL DEFAULT 0, -- attempts before it, of unknown cost
    assumed_tokens bigint NOT NULL DEFAULT 0, -- what budgets assume for those
    assumed_usd numeric,
    latency_us bigint NOT NULL,
    request_digest text NOT NULL,
    counted bigint,                 -- tokens of its request before memory made it shorter; null: sent as it was
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX turn_by_session ON holdfast.turn (session_key, turn);

-- The inbox: one row per asked call and arguments, kept current by the facts that are appended.
CREATE TABLE holdfast.approval (
    session_key uuid NOT NULL REFERENCES holdfast.session (session_key),
    call text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL, -- salted digest of the arguments
    effect_id text,
    tool_use_id text,
    tool text,
    tier text,
    preview text,
    asked_at timestamptz NOT NULL,
    expires_at timestamptz,
    use_within interval,
    state text NOT NULL DEFAULT 'pending' CHECK (
        state IN ('pending', 'approved', 'denied', 'expired', 'consumed')
    ),
    decision text,                  -- id of the decision that stands
    decided_at timestamptz,
    decided_by text,
    authenticated boolean,
    reason text,
    consumed_by text,               -- effect id
    consumed_at timestamptz,
    PRIMARY KEY (session_key, call, digest)
);
CREATE INDEX approval_pending ON holdfast.approval (asked_at) WHERE state = 'pending';
CREATE INDEX approval_by_decision ON holdfast.approval (session_key, decision);

-- Tools nobody may dispatch now. Tool '*' is every tool above tier read.
CREATE TABLE holdfast.kill_switch (
    tool text COLLATE "C" PRIMARY KEY,
    reason text NOT NULL,
    disabled_by text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Circuit breakers: tools, or services, that fail. Open: not asked until then.
CREATE TABLE holdfast.breaker (
    name text COLLATE "C" PRIMARY KEY,
    failures integer NOT NULL DEFAULT 0, -- in a row
    since timestamptz NOT NULL DEFAULT clock_timestamp(), -- the first of them
    open_until timestamptz
);

-- The streaming turn, for watchers. Lost in a crash of the server, and that is fine.
CREATE UNLOGGED TABLE holdfast.chunk (
    session_id text COLLATE "C" NOT NULL,
    turn integer NOT NULL,
    token integer NOT NULL,         -- the attempt; a higher one resets the view
    seq integer NOT NULL,
    kind text NOT NULL,
    body bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (session_id, turn, token, seq)
);
CREATE INDEX chunk_by_age ON holdfast.chunk (at);
