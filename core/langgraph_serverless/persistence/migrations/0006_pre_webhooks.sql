-- Webhooks. The outbox exists since 0001; this says what goes into it. A row is written by the transaction that ends the run,
-- and holds what the run and its thread were at that moment, as both may be gone when it is sent.

-- The wire's form of a time.
CREATE FUNCTION lgs.wire_time(moment timestamptz) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT to_char($1 AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
$$;

-- The webhook's body, but for the time of sending: the run as clients see it, and how it ended. `error` is absent without one.
CREATE FUNCTION lgs.webhook_payload(ended lgs.run, final_status text, thread_values jsonb, final_error jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'run_id', ($1).run_id,
        'thread_id', ($1).thread_id,
        'assistant_id', ($1).assistant_id,
        'created_at', lgs.wire_time(($1).created_at),
        'updated_at', lgs.wire_time(($1).updated_at),
        'metadata', ($1).metadata,
        'status', $2,
        'kwargs', ($1).kwargs,
        'multitask_strategy', ($1).multitask_strategy,
        'langsmith_session_name', NULL,
        'run_started_at', lgs.wire_time(($1).started_at),
        'run_ended_at', lgs.wire_time(COALESCE(($1).finished_at, clock_timestamp())),
        'values', $3
    ) || CASE WHEN $4 IS NULL THEN '{}'::jsonb ELSE jsonb_build_object('error', $4) END
$$;
