-- name: create_run
-- A run with its thread and its place in a trace, or why it was not made (`migrations/0027`).
SELECT c.outcome, c.metadata, c.kwargs, c.created_at, c.updated_at, c.waits
FROM lgs.create_run_v1(
    %(run_id)s::uuid, %(thread_id)s::uuid, %(tenant)s::text,
    %(assistant_id)s::uuid, %(assistant_version)s::integer, %(assistant_time)s::timestamptz, %(graph_id)s::text,
    %(makes_thread)s::boolean, %(new_metadata)s::jsonb, %(temporary)s::boolean, %(ttl_strategy)s::text, %(ttl_minutes)s::float8,
    %(metadata)s::jsonb, %(said)s::jsonb, %(kwargs)s::jsonb, %(multitask_strategy)s::text, %(webhook)s::text,
    %(after_seconds)s::float8, %(thread_metadata)s::jsonb, %(thread_config)s::jsonb, %(trace)s::jsonb) AS c
