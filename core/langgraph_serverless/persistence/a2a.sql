-- name: find_task
-- A task as it stands: its last run, or the one that is asked for, whether anything came after that on its thread, whether that waits,
-- and whose message began which part of the conversation. Whoever asks has seen to it that the caller may read the thread.
WITH last AS (
    SELECT r.run_id, r.thread_id, r.assistant_id, r.status, r.resuming, r.created_at, r.updated_at, t.canceled_at
    FROM lgs.run r LEFT JOIN lgs.a2a_turn t USING (run_id)
    WHERE r.thread_id = %(thread_id)s AND COALESCE(t.task_id, r.run_id) = %(task_id)s
      AND (%(run_id)s::uuid IS NULL OR r.run_id = %(run_id)s)
    ORDER BY r.created_at DESC, r.run_id DESC
    LIMIT 1
)
SELECT last.run_id, last.assistant_id, last.status, last.resuming, last.updated_at, last.canceled_at,
    h.settled_status = 'interrupted' AS waiting,
    NOT EXISTS (
        SELECT 1 FROM lgs.run o
        WHERE o.thread_id = last.thread_id AND (o.created_at, o.run_id) > (last.created_at, last.run_id)) AS newest,
    COALESCE((
        SELECT jsonb_agg(jsonb_build_array(
            m.message_id, m.task_id, (r.created_at, r.run_id) > (last.created_at, last.run_id)) ORDER BY r.created_at, r.run_id)
        FROM lgs.a2a_turn m JOIN lgs.run r USING (run_id)
        WHERE r.thread_id = last.thread_id AND m.message_id IS NOT NULL), '[]') AS turns
FROM last JOIN lgs.thread h USING (thread_id)

-- name: live_runs_of_task
-- What of a task is still to be executed.
SELECT r.run_id
FROM lgs.run r LEFT JOIN lgs.a2a_turn t USING (run_id)
WHERE r.thread_id = %(thread_id)s AND COALESCE(t.task_id, r.run_id) = %(task_id)s AND r.status IN ('pending', 'running')
ORDER BY r.created_at, r.run_id

-- name: list_tasks
-- A page of the tasks that an assistant has on these threads, the one that has changed last first, and how many there are.
WITH latest AS (
    SELECT DISTINCT ON (COALESCE(t.task_id, r.run_id))
        COALESCE(t.task_id, r.run_id) AS task_id, r.run_id, r.thread_id, r.created_at,
        COALESCE(t.canceled_at, r.updated_at) AS changed_at,
        CASE
            WHEN t.canceled_at IS NOT NULL OR r.status = 'interrupted' THEN 'canceled'
            WHEN r.status = 'pending' AND NOT r.resuming THEN 'submitted'
            WHEN r.status IN ('pending', 'running') THEN 'working'
            WHEN r.status IN ('error', 'timeout') THEN 'failed'
            WHEN h.settled_status = 'interrupted' AND NOT EXISTS (
                SELECT 1 FROM lgs.run o
                WHERE o.thread_id = r.thread_id AND (o.created_at, o.run_id) > (r.created_at, r.run_id)) THEN 'input-required'
            ELSE 'completed'
        END AS state
    FROM lgs.run r JOIN lgs.thread h USING (thread_id) LEFT JOIN lgs.a2a_turn t USING (run_id)
    WHERE r.thread_id = ANY(%(thread_ids)s) AND r.assistant_id = %(assistant_id)s
    ORDER BY COALESCE(t.task_id, r.run_id), r.created_at DESC, r.run_id DESC
)
SELECT task_id, thread_id, count(*) OVER () AS total
FROM latest
WHERE (%(state)s::text IS NULL OR state = %(state)s) AND (%(after)s::timestamptz IS NULL OR changed_at >= %(after)s)
ORDER BY changed_at DESC, created_at DESC, task_id
LIMIT %(limit)s OFFSET %(offset)s

-- name: count_tasks
-- How many there are, for a page behind the last one.
SELECT count(DISTINCT COALESCE(t.task_id, r.run_id)) AS total
FROM lgs.run r LEFT JOIN lgs.a2a_turn t USING (run_id)
WHERE r.thread_id = ANY(%(thread_ids)s) AND r.assistant_id = %(assistant_id)s

-- name: add_turn
-- A run that a message has made, and the task that it belongs to.
INSERT INTO lgs.a2a_turn (run_id, tenant, task_id, message_id)
SELECT run_id, tenant, %(task_id)s, %(message_id)s FROM lgs.run WHERE run_id = %(run_id)s

-- name: cancel_task
-- A task is canceled with its last run. One that has ended already, with a question, is what its clients are notified of here.
WITH marked AS (
    INSERT INTO lgs.a2a_turn (run_id, tenant, task_id, canceled_at)
    SELECT run_id, tenant, %(task_id)s, clock_timestamp() FROM lgs.run WHERE run_id = %(run_id)s
    ON CONFLICT (run_id) DO UPDATE SET canceled_at = COALESCE(lgs.a2a_turn.canceled_at, clock_timestamp())
    RETURNING run_id
)
SELECT lgs.a2a_notify(r, true) FROM lgs.run r JOIN marked USING (run_id) WHERE r.status NOT IN ('pending', 'running')

-- name: set_push
-- Where a client wants to be notified of a task; one of this name is replaced. None beyond the most that a task may have.
INSERT INTO lgs.a2a_push (task_id, config_id, tenant, url, dialect, value)
SELECT run_id, %(config_id)s, tenant, %(url)s, %(dialect)s, %(value)s
FROM lgs.run r
WHERE run_id = %(task_id)s AND (
    SELECT count(*) FROM lgs.a2a_push p WHERE p.task_id = r.run_id AND p.config_id <> %(config_id)s) < %(most)s::int
ON CONFLICT (task_id, config_id) DO UPDATE
SET url = EXCLUDED.url, dialect = EXCLUDED.dialect, value = EXCLUDED.value
RETURNING config_id

-- name: list_pushes
-- Where clients want to be notified of a task, in the order in which they have said so.
SELECT config_id, url, dialect, value FROM lgs.a2a_push
WHERE task_id = %(task_id)s
ORDER BY created_at, config_id

-- name: delete_push
-- Nobody is notified there any longer, also not of what is still on its way.
WITH gone AS (
    DELETE FROM lgs.a2a_push WHERE task_id = %(task_id)s AND config_id = %(config_id)s RETURNING task_id, config_id
)
DELETE FROM lgs.outbox o USING gone
WHERE o.delivered_at IS NULL AND o.dead_at IS NULL AND o.payload -> 'a2a' ->> 'config_id' = gone.config_id
  AND o.payload -> 'a2a' ->> 'task_id' = gone.task_id::text
  AND o.run_id IN (
      SELECT gone.task_id UNION ALL SELECT t.run_id FROM lgs.a2a_turn t WHERE t.task_id = gone.task_id)
