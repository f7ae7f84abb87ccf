-- Whether a run has got on in one of its last leases: a superstep of its graph, or of a subgraph, was completed in it. The
-- run's first checkpoint of a namespace only takes the input in, so it does not count; nor does the first lease, after which
-- nobody can tell who took the worker away.
CREATE FUNCTION lgs.has_got_on(run_id uuid, thread_id uuid, lease_history jsonb, leases integer) RETURNS boolean
LANGUAGE sql STABLE AS $$
    WITH latest AS (
        SELECT (entry ->> 'token')::uuid AS token
        FROM jsonb_array_elements($3) WITH ORDINALITY AS l (entry, place)
        WHERE place > 1
        ORDER BY place DESC
        LIMIT greatest($4, 1)
    )
    SELECT EXISTS (
        SELECT 1
        FROM checkpoints c JOIN latest ON c.lease_token = latest.token
        WHERE c.thread_id = $2::text AND c.metadata ->> 'run_id' = $1::text AND c.metadata ->> 'source' = 'loop'
          AND EXISTS (
              SELECT 1 FROM checkpoints e
              WHERE e.thread_id = c.thread_id AND e.checkpoint_ns = c.checkpoint_ns
                AND e.metadata ->> 'run_id' = $1::text AND e.metadata ->> 'source' = 'loop'
                AND e.checkpoint_id < c.checkpoint_id))
$$;
