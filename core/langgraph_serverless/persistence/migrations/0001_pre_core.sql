-- Assistants, threads, runs (the queue), crons, and the tables of webhooks and idempotency.
-- A schema of their own, so that they can share a database with anything.
CREATE SCHEMA IF NOT EXISTS lgs;

CREATE TABLE lgs.assistant (
    assistant_id uuid PRIMARY KEY,
    tenant text NOT NULL DEFAULT '',
    graph_id text NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    name text NOT NULL,
    description text,
    config jsonb NOT NULL DEFAULT '{}',
    context jsonb NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX assistant_created ON lgs.assistant (created_at DESC, assistant_id);
CREATE INDEX assistant_graph ON lgs.assistant (graph_id, created_at DESC);
CREATE INDEX assistant_metadata ON lgs.assistant USING gin (metadata jsonb_path_ops);

CREATE TABLE lgs.assistant_version (
    assistant_id uuid NOT NULL REFERENCES lgs.assistant ON DELETE CASCADE,
    version integer NOT NULL CHECK (version >= 1),
    graph_id text NOT NULL,
    name text NOT NULL,
    description text,
    config jsonb NOT NULL DEFAULT '{}',
    context jsonb NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (assistant_id, version)
);

CREATE TABLE lgs.thread (
    thread_id uuid PRIMARY KEY,
    tenant text NOT NULL DEFAULT '',
    -- what clients see: busy while a run is pending or running, else settled_status
    status text NOT NULL DEFAULT 'idle' CHECK (status IN ('idle', 'busy', 'interrupted', 'error')),
    settled_status text NOT NULL DEFAULT 'idle' CHECK (settled_status IN ('idle', 'interrupted', 'error')),
    metadata jsonb NOT NULL DEFAULT '{}',
    config jsonb NOT NULL DEFAULT '{}',
    -- null: no run and no state write yet
    channel_values jsonb,
    interrupts jsonb NOT NULL DEFAULT '{}',
    error jsonb,
    -- made for a stateless run that nobody keeps
    temporary boolean NOT NULL DEFAULT false,
    -- set when a temporary thread's run has ended: hidden from now on, deleted by a sweep after this time
    purge_at timestamptz,
    ttl_strategy text CHECK (ttl_strategy IN ('delete', 'keep_latest')),
    ttl_minutes double precision CHECK (ttl_minutes > 0),
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    state_updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX thread_updated ON lgs.thread (updated_at DESC, thread_id) WHERE purge_at IS NULL;
CREATE INDEX thread_created ON lgs.thread (created_at DESC, thread_id) WHERE purge_at IS NULL;
CREATE INDEX thread_status ON lgs.thread (status, updated_at DESC) WHERE purge_at IS NULL;
CREATE INDEX thread_metadata ON lgs.thread USING gin (metadata jsonb_path_ops);
CREATE INDEX thread_purge ON lgs.thread (purge_at) WHERE purge_at IS NOT NULL;
CREATE INDEX thread_expiry ON lgs.thread (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE lgs.cron (
    cron_id uuid PRIMARY KEY,
    tenant text NOT NULL DEFAULT '',
    assistant_id uuid NOT NULL,
    thread_id uuid REFERENCES lgs.thread ON DELETE CASCADE,
    user_id text NOT NULL DEFAULT '',
    schedule text NOT NULL,
    timezone text,
    end_time timestamptz,
    payload jsonb NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    on_run_completed text CHECK (on_run_completed IN ('delete', 'keep')),
    enabled boolean NOT NULL DEFAULT true,
    -- null: over, no further firing
    next_run_date timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX cron_due ON lgs.cron (next_run_date) WHERE enabled AND next_run_date IS NOT NULL;
CREATE INDEX cron_assistant ON lgs.cron (assistant_id);
CREATE INDEX cron_thread ON lgs.cron (thread_id) WHERE thread_id IS NOT NULL;
CREATE INDEX cron_created ON lgs.cron (created_at DESC, cron_id);

CREATE TABLE lgs.run (
    run_id uuid PRIMARY KEY,
    thread_id uuid NOT NULL REFERENCES lgs.thread ON DELETE CASCADE,
    tenant text NOT NULL DEFAULT '',
    -- no reference: runs outlive their assistant
    assistant_id uuid NOT NULL,
    graph_id text NOT NULL,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'running', 'success', 'error', 'timeout', 'interrupted')),
    -- was running before: handed on, or its worker was lost
    resuming boolean NOT NULL DEFAULT false,
    metadata jsonb NOT NULL DEFAULT '{}',
    kwargs jsonb NOT NULL,
    multitask_strategy text NOT NULL DEFAULT 'enqueue'
        CHECK (multitask_strategy IN ('reject', 'enqueue', 'interrupt', 'rollback')),
    webhook text,
    cron_id uuid,
    cron_due_at timestamptz,
    -- lower first
    priority smallint NOT NULL DEFAULT 0,
    concurrency_key text,
    -- not before this time
    available_at timestamptz NOT NULL DEFAULT now(),
    -- claims that were not planned hand-offs
    attempt integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    handoffs integer NOT NULL DEFAULT 0 CHECK (handoffs >= 0),
    lease_token uuid,
    lease_owner text,
    lease_expires_at timestamptz,
    -- one entry per claim: token, owner, time, whether it was an attempt
    lease_history jsonb NOT NULL DEFAULT '[]',
    cancel_action text CHECK (cancel_action IN ('interrupt', 'rollback')),
    cancel_reason text,
    cancel_requested_at timestamptz,
    -- what wait and join answer
    output jsonb,
    error jsonb,
    last_error text,
    last_node text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    CONSTRAINT run_lease_iff_running CHECK (
        (status = 'running') = (lease_token IS NOT NULL)
        AND (lease_token IS NULL) = (lease_expires_at IS NULL)
    ),
    CONSTRAINT run_finished_iff_final CHECK (
        (status IN ('success', 'error', 'timeout', 'interrupted')) = (finished_at IS NOT NULL)
    ),
    CONSTRAINT run_resuming_only_live CHECK (NOT resuming OR status IN ('pending', 'running')),
    CONSTRAINT run_cron_has_due_time CHECK ((cron_id IS NULL) = (cron_due_at IS NULL)),
    CONSTRAINT run_once_per_cron_and_time UNIQUE (cron_id, cron_due_at)
);
-- one running run per thread is a fact of the database, not a convention
CREATE UNIQUE INDEX run_one_running_per_thread ON lgs.run (thread_id) WHERE status = 'running';
CREATE INDEX run_queue ON lgs.run (priority, available_at, run_id) WHERE status = 'pending';
CREATE INDEX run_pending_of_thread ON lgs.run (thread_id, created_at, run_id) WHERE status = 'pending';
CREATE INDEX run_lease ON lgs.run (lease_expires_at) WHERE status = 'running';
CREATE INDEX run_of_thread ON lgs.run (thread_id, created_at DESC, run_id DESC);
CREATE INDEX run_concurrency ON lgs.run (concurrency_key) WHERE status = 'running' AND concurrency_key IS NOT NULL;

CREATE TABLE lgs.outbox (
    outbox_id uuid PRIMARY KEY,
    tenant text NOT NULL DEFAULT '',
    run_id uuid NOT NULL,
    thread_id uuid NOT NULL,
    url text NOT NULL,
    payload jsonb NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    available_at timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz,
    dead_at timestamptz,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT outbox_one_end CHECK (delivered_at IS NULL OR dead_at IS NULL)
);
CREATE INDEX outbox_due ON lgs.outbox (available_at) WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX outbox_run ON lgs.outbox (run_id);

CREATE TABLE lgs.idempotency (
    tenant text NOT NULL DEFAULT '',
    route text NOT NULL,
    scope text NOT NULL DEFAULT '',
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    status smallint NOT NULL,
    headers jsonb NOT NULL DEFAULT '{}',
    response bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, route, scope, key)
);
CREATE INDEX idempotency_expiry ON lgs.idempotency (expires_at);
