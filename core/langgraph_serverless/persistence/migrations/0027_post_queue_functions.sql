-- What the queue does in one statement and one round trip that takes several steps: making a run and ending it. Functions, as their
-- steps are planned once per connection, also behind a pooler, and as each of them sees what was committed before it: what is locked
-- is locked first, then looked at. Nobody who stands still keeps a lock between two steps. They never change: what takes other
-- parameters, or does something else, is a function of another name, as processes of two versions run side by side.

-- Seconds until the earliest delayed run is due; null if none waits. One step into the queue's index for each priority: there are few,
-- and due runs are not read, of which there may be many.
CREATE FUNCTION lgs.next_due_v1() RETURNS double precision LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        WITH RECURSIVE level AS (
            (SELECT priority FROM lgs.run WHERE status = 'pending' ORDER BY priority LIMIT 1)
            UNION ALL
            SELECT following.priority
            FROM level CROSS JOIN LATERAL (
                SELECT r.priority FROM lgs.run r
                WHERE r.status = 'pending' AND r.priority > level.priority
                ORDER BY r.priority
                LIMIT 1
            ) AS following
        )
        SELECT EXTRACT(EPOCH FROM min(delayed.available_at) - clock_timestamp())::float8
        FROM level CROSS JOIN LATERAL (
            SELECT r.available_at FROM lgs.run r
            WHERE r.status = 'pending' AND r.priority = level.priority AND r.available_at > now()
            ORDER BY r.available_at
            LIMIT 1
        ) AS delayed
    );
END
$$;

-- The end of a run: its last checkpoints (0026), its row, its thread and its webhook, if the lease is still held and no cancel has been
-- recorded that this end would lose (success after an interrupt, anything but a rollback after a rollback). No row if the lease has
-- ended; a row with the cancel, and not settled, if one has been recorded. Then what was saved stays, as of any run that is cancelled.
CREATE FUNCTION lgs.settle_v1(
    _run_id uuid, _token uuid, _thread_id uuid,
    -- null: nothing is left to be saved
    _save_rows jsonb, _save_blobs bytea[], _save_writes bytea[],
    -- the output is the thread's values, once more
    _status text, _output jsonb, _output_is_values boolean, _error jsonb, _last_error text, _last_node text,
    _thread_status text, _write_values boolean, _values jsonb, _interrupts jsonb, _thread_error jsonb,
    _temporary_retention double precision
) RETURNS TABLE (settled boolean, more boolean, outbox_id uuid, pushed boolean, cancel_action text, cancel_reason text)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    -- the thread before the run, as creating and cancelling do; what waits for it must look at the thread's runs afterwards
    PERFORM FROM lgs.thread t WHERE t.thread_id = _thread_id FOR UPDATE;
    IF _save_rows IS NOT NULL AND NOT lgs.save_v1(_run_id, _token, _save_rows, _save_blobs, _save_writes, false) THEN
        RETURN;
    END IF;
    RETURN QUERY
    -- one statement, so that whoever hears of the run's end (a2a_run_ended) finds the thread as the run has left it
    WITH ended AS (
        UPDATE lgs.run r
        SET status = _status, resuming = false, error = _error, last_error = _last_error,
            output = CASE WHEN _output_is_values THEN _values ELSE _output END,
            last_node = COALESCE(_last_node, r.last_node),
            finished_at = clock_timestamp(), updated_at = clock_timestamp(),
            lease_token = NULL, lease_owner = NULL, lease_expires_at = NULL
        WHERE r.run_id = _run_id AND r.lease_token = _token AND r.status = 'running'
          AND (r.cancel_action IS NULL OR (r.cancel_action = 'interrupt' AND _status <> 'success'))
        -- the whole row only where it is wanted, as it may be large
        RETURNING r.run_id, r.thread_id, r.tenant, r.webhook, CASE WHEN r.webhook IS NOT NULL THEN r END AS row
    ), queued AS (
        SELECT EXISTS (
            SELECT FROM lgs.run o
            WHERE o.thread_id = _thread_id AND o.run_id <> _run_id AND o.status IN ('pending', 'running')
        ) AS more
    ), marked AS (
        UPDATE lgs.thread t
        SET settled_status = _thread_status,
            status = CASE WHEN queued.more THEN 'busy' ELSE _thread_status END,
            channel_values = CASE WHEN _write_values THEN _values ELSE t.channel_values END,
            interrupts = COALESCE(_interrupts, t.interrupts),
            error = _thread_error,
            updated_at = clock_timestamp(),
            state_updated_at = CASE WHEN _write_values THEN clock_timestamp() ELSE t.state_updated_at END,
            purge_at = CASE WHEN t.temporary
                THEN clock_timestamp() + make_interval(secs => _temporary_retention) END
        FROM ended, queued
        WHERE t.thread_id = ended.thread_id
        RETURNING t.thread_id, CASE WHEN ended.webhook IS NOT NULL AND NOT t.temporary THEN t.channel_values END AS values
    ), noted AS (
        INSERT INTO lgs.outbox (outbox_id, tenant, run_id, thread_id, url, payload)
        SELECT gen_random_uuid(), e.tenant, e.run_id, e.thread_id, e.webhook,
            lgs.webhook_payload(e.row, _status, m.values, _error)
        FROM ended e JOIN marked m USING (thread_id)
        WHERE e.webhook IS NOT NULL
        RETURNING outbox_id
    )
    SELECT true, queued.more, (SELECT n.outbox_id FROM noted n),
        EXISTS (
            SELECT FROM lgs.a2a_push p
            WHERE p.task_id = COALESCE((SELECT u.task_id FROM lgs.a2a_turn u WHERE u.run_id = ended.run_id), ended.run_id)
        ),
        NULL::text, NULL::text
    FROM ended, queued;
    IF NOT FOUND THEN
        RETURN QUERY
        SELECT false, NULL::boolean, NULL::uuid, NULL::boolean, r.cancel_action, r.cancel_reason
        FROM lgs.run r
        WHERE r.run_id = _run_id AND r.lease_token = _token AND r.status = 'running' AND r.cancel_action IS NOT NULL;
    END IF;
END
$$;

-- The end of a run that was rolled back: its row, its checkpoints and its writes disappear, the thread is as it was before. No row if
-- the lease has ended.
CREATE FUNCTION lgs.roll_back_v1(
    _run_id uuid, _token uuid, _thread_id uuid, _thread_error jsonb, _temporary_retention double precision
) RETURNS TABLE (more boolean, outbox_id uuid)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM lgs.thread t WHERE t.thread_id = _thread_id FOR UPDATE;
    RETURN QUERY
    WITH gone AS (
        DELETE FROM lgs.run r
        WHERE r.run_id = _run_id AND r.lease_token = _token AND r.status = 'running'
        RETURNING r.run_id, r.thread_id, r.tenant, r.lease_history, r.webhook, CASE WHEN r.webhook IS NOT NULL THEN r END AS row
    ), tokens AS (
        SELECT (entry ->> 'token')::uuid AS token FROM gone, jsonb_array_elements(gone.lease_history) AS entry
    ), deleted_checkpoints AS (
        DELETE FROM checkpoints c
        USING gone
        WHERE c.thread_id = gone.thread_id::text AND c.lease_token IN (SELECT token FROM tokens)
    ), deleted_writes AS (
        DELETE FROM checkpoint_writes w
        USING gone
        WHERE w.thread_id = gone.thread_id::text AND w.lease_token IN (SELECT token FROM tokens)
    ), deleted_blobs AS (
        DELETE FROM checkpoint_blobs b
        USING gone
        WHERE b.thread_id = gone.thread_id::text AND b.lease_token IN (SELECT token FROM tokens)
    ), queued AS (
        SELECT EXISTS (
            SELECT FROM lgs.run o
            WHERE o.thread_id = _thread_id AND o.run_id <> _run_id AND o.status IN ('pending', 'running')
        ) AS more
    ), marked AS (
        UPDATE lgs.thread t
        SET status = CASE WHEN queued.more THEN 'busy' ELSE t.settled_status END,
            error = _thread_error,
            updated_at = clock_timestamp(),
            purge_at = CASE WHEN t.temporary
                THEN clock_timestamp() + make_interval(secs => _temporary_retention) END
        FROM gone, queued
        WHERE t.thread_id = gone.thread_id
    ), noted AS (
        INSERT INTO lgs.outbox (outbox_id, tenant, run_id, thread_id, url, payload)
        SELECT gen_random_uuid(), g.tenant, g.run_id, g.thread_id, g.webhook,
            lgs.webhook_payload(g.row, 'rollback', NULL, _thread_error)
        FROM gone g
        WHERE g.webhook IS NOT NULL
        RETURNING outbox_id
    )
    SELECT queued.more, (SELECT n.outbox_id FROM noted n) FROM gone, queued;
END
$$;

-- A run to be made. It was planned with the assistant of this version and time, and as if its thread had no metadata; `says` is what
-- counts more than that (null: the thread's does not count). What has come of it:
--   made      with the row's documents and times, and whether it has to wait: for its time, or for another run of its thread
--   stale     the assistant is another one by now: plan again
--   missing   there is no such assistant, or no such thread that clients see
--   busy      the thread is, and this is not for runs that others have to make way for
-- The assistant is locked before the thread, as by whoever deletes both, and the thread until the end, so that creating, settling and
-- cancelling on one thread take turns.
CREATE FUNCTION lgs.create_run_v1(
    _run_id uuid, _thread_id uuid, _tenant text,
    _assistant_id uuid, _assistant_version integer, _assistant_time timestamptz, _graph_id text,
    -- make the thread, unless it exists, with this metadata and time to live
    _makes_thread boolean, _new_metadata jsonb, _temporary boolean, _ttl_strategy text, _ttl_minutes double precision,
    _metadata jsonb, _says jsonb, _kwargs jsonb, _strategy text, _webhook text, _after_seconds double precision,
    _thread_metadata jsonb, _thread_config jsonb, _trace jsonb
) RETURNS TABLE (
    outcome text, metadata jsonb, kwargs jsonb, created_at timestamptz, updated_at timestamptz, waits boolean)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    _owner text := _tenant;
    _known jsonb;
    _status text;
    _seen boolean := false;
    _made boolean := false;
    _merged jsonb := _metadata;
    _asked jsonb := _kwargs;
BEGIN
    PERFORM FROM lgs.assistant a WHERE a.assistant_id = _assistant_id FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'missing', NULL::jsonb, NULL::jsonb, NULL::timestamptz, NULL::timestamptz, NULL::boolean;
        RETURN;
    END IF;
    PERFORM FROM lgs.assistant a
    WHERE a.assistant_id = _assistant_id AND a.version = _assistant_version AND a.updated_at = _assistant_time;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'stale', NULL::jsonb, NULL::jsonb, NULL::timestamptz, NULL::timestamptz, NULL::boolean;
        RETURN;
    END IF;
    -- a run that makes its thread and meets a delete of it between the two steps looks again
    FOR _attempt IN 1..5 LOOP
        IF _says IS NOT NULL THEN
            SELECT t.tenant, t.metadata, t.status INTO _owner, _known, _status
            FROM lgs.thread t WHERE t.thread_id = _thread_id AND t.purge_at IS NULL
            FOR UPDATE;
            _seen := FOUND;
            EXIT WHEN _seen OR NOT _makes_thread;
        END IF;
        INSERT INTO lgs.thread (
            thread_id, tenant, status, metadata, config, temporary, ttl_strategy, ttl_minutes, expires_at, updated_at)
        VALUES (_thread_id, _tenant, 'busy', _new_metadata || _thread_metadata, _thread_config, _temporary,
            _ttl_strategy, _ttl_minutes, clock_timestamp() + make_interval(secs => _ttl_minutes * 60), clock_timestamp())
        ON CONFLICT (thread_id) DO NOTHING;
        _made := FOUND;
        IF _made THEN
            _owner := _tenant;
            EXIT;
        END IF;
    END LOOP;
    IF NOT _made THEN
        IF NOT _seen THEN
            RETURN QUERY SELECT 'missing', NULL::jsonb, NULL::jsonb, NULL::timestamptz, NULL::timestamptz, NULL::boolean;
            RETURN;
        END IF;
        IF _status = 'busy' AND _strategy <> 'enqueue' THEN
            RETURN QUERY SELECT 'busy', NULL::jsonb, NULL::jsonb, NULL::timestamptz, NULL::timestamptz, NULL::boolean;
            RETURN;
        END IF;
        IF _known <> '{}' THEN
            _merged := _metadata || (_known - ARRAY(
                SELECT name FROM jsonb_object_keys(_known) AS name WHERE starts_with(name, 'langgraph_auth_'))) || _says;
            _asked := jsonb_set(_kwargs, '{config,metadata}', _merged);
        END IF;
    END IF;
    INSERT INTO lgs.run AS r (
        run_id, thread_id, tenant, assistant_id, graph_id, metadata, kwargs, multitask_strategy, webhook,
        available_at, created_at, updated_at)
    VALUES (
        _run_id, _thread_id, _owner, _assistant_id, _graph_id,
        _merged, _asked, _strategy, _webhook,
        clock_timestamp() + make_interval(secs => _after_seconds),
        -- of the same instant as its thread, if this has made that too
        CASE WHEN _made THEN now() ELSE clock_timestamp() END + make_interval(secs => _after_seconds),
        clock_timestamp())
    RETURNING r.created_at, r.updated_at, r.available_at > clock_timestamp() INTO created_at, updated_at, waits;
    IF NOT _made THEN
        UPDATE lgs.thread t
        SET status = 'busy', metadata = t.metadata || _thread_metadata, config = _thread_config, updated_at = clock_timestamp()
        WHERE t.thread_id = _thread_id;
        IF _status = 'busy' AND NOT waits THEN
            waits := EXISTS (
                SELECT FROM lgs.run o
                WHERE o.thread_id = _thread_id AND o.status IN ('pending', 'running')
                  AND (o.status = 'running' OR (o.created_at, o.run_id) < (create_run_v1.created_at, _run_id)));
        END IF;
    END IF;
    IF _trace IS NOT NULL THEN
        INSERT INTO lgs.run_trace (run_id, trace) VALUES (_run_id, _trace);
    END IF;
    outcome := 'made';
    metadata := _merged;
    kwargs := _asked;
    RETURN NEXT;
END
$$;

-- Most runs have nobody to notify: what a notification is made of need not be planned for them.
CREATE OR REPLACE FUNCTION lgs.a2a_run_ended() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM lgs.a2a_push p
        WHERE p.task_id = COALESCE((SELECT u.task_id FROM lgs.a2a_turn u WHERE u.run_id = NEW.run_id), NEW.run_id)
    ) THEN
        PERFORM lgs.a2a_notify(NEW, NEW.status = 'interrupted');
    END IF;
    RETURN NULL;
END
$$;
