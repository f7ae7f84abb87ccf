-- name: progress
-- What the earlier leases of a run have saved; no row if its thread has no checkpoint. An answer has been taken for good by a
-- task that had asked and has written since, or by a subgraph that has gone on.
WITH tokens AS (
    SELECT (entry ->> 'token')::uuid AS token
    FROM lgs.run r, jsonb_array_elements(r.lease_history) AS entry
    WHERE r.run_id = %(run_id)s
), root AS (
    SELECT checkpoint_id, parent_checkpoint_id, metadata, metadata ->> 'run_id' = %(run_id)s::text AS own
    FROM checkpoints
    WHERE thread_id = %(thread_id)s AND checkpoint_ns = ''
), newest AS (
    SELECT checkpoint_id FROM root ORDER BY checkpoint_id DESC LIMIT 1
), begun AS (
    -- where each subgraph stands that the superstep after it has begun, and where the graphs around it stood
    SELECT DISTINCT ON (c.checkpoint_ns) c.checkpoint_ns, c.checkpoint_id, c.metadata -> 'parents' AS parents
    FROM checkpoints c, newest
    WHERE c.thread_id = %(thread_id)s AND c.checkpoint_ns <> '' AND c.checkpoint_id > newest.checkpoint_id
      AND c.metadata -> 'parents' ->> '' = newest.checkpoint_id
    ORDER BY c.checkpoint_ns, c.checkpoint_id DESC
), flight AS (
    -- what is in a subgraph that has gone on since is over
    SELECT b.checkpoint_ns, b.parents FROM begun b
    WHERE NOT EXISTS (
        SELECT 1 FROM jsonb_each_text(b.parents) AS p (space, checkpoint_id)
        WHERE p.space <> '' AND (p.space, p.checkpoint_id) NOT IN (SELECT o.checkpoint_ns, o.checkpoint_id FROM begun o))
)
SELECT
    EXISTS (SELECT 1 FROM root WHERE own) AS own,
    COALESCE(
        (SELECT max((metadata ->> 'step')::int) - 1 FROM root WHERE own AND metadata ->> 'source' = 'input'),
        (SELECT (p.metadata ->> 'step')::int
         FROM (SELECT parent_checkpoint_id FROM root WHERE own ORDER BY checkpoint_id LIMIT 1) AS first
         JOIN root p ON p.checkpoint_id = first.parent_checkpoint_id),
        -2) AS base,
    (SELECT COALESCE(jsonb_object_agg(f.checkpoint_ns, f.parents), '{}') FROM flight f) AS spaces,
    EXISTS (
        SELECT 1 FROM checkpoint_writes w
        WHERE w.thread_id = %(thread_id)s AND w.checkpoint_ns = '' AND w.checkpoint_id = newest.checkpoint_id
          AND w.task_id = %(null_task)s AND w.channel <> '__resume__' AND w.lease_token IN (SELECT token FROM tokens)
        ) AS commanded,
    EXISTS (
        SELECT 1 FROM checkpoint_writes w
        WHERE w.thread_id = %(thread_id)s AND w.checkpoint_ns = '' AND w.checkpoint_id = %(named)s
          AND w.checkpoint_id <> newest.checkpoint_id
          AND w.task_id = %(null_task)s AND w.channel <> '__resume__' AND w.lease_token IN (SELECT token FROM tokens)
        ) AS commanded_back,
    NOT EXISTS (SELECT 1 FROM root WHERE own) AND (EXISTS (
        SELECT 1 FROM checkpoint_writes w
        WHERE w.thread_id = %(thread_id)s AND w.lease_token IN (SELECT token FROM tokens)
          AND CASE WHEN w.task_id = %(null_task)s
              THEN w.channel = '__resume__' AND w.checkpoint_ns = '' AND w.checkpoint_id = newest.checkpoint_id
              ELSE w.channel NOT IN ('__interrupt__', '__error__') AND EXISTS (
                  SELECT 1 FROM checkpoint_writes asked
                  WHERE asked.thread_id = w.thread_id AND asked.checkpoint_ns = w.checkpoint_ns
                    AND asked.checkpoint_id = w.checkpoint_id AND asked.task_id = w.task_id
                    AND asked.channel = '__interrupt__') END)
    OR EXISTS (
        SELECT 1 FROM checkpoints c
        WHERE c.thread_id = %(thread_id)s AND c.checkpoint_ns <> '' AND c.lease_token IN (SELECT token FROM tokens)
        )) AS resumed
FROM newest

-- name: answered
-- The interrupts whose answers an earlier lease of a run has stored with their tasks.
SELECT asked.type, asked.blob
FROM lgs.run r
CROSS JOIN LATERAL jsonb_array_elements(r.lease_history) AS entry
JOIN checkpoint_writes answer
    ON answer.thread_id = %(thread_id)s AND answer.channel = '__resume__' AND answer.task_id <> %(null_task)s
   AND answer.lease_token = (entry ->> 'token')::uuid
JOIN checkpoint_writes asked
    ON asked.thread_id = answer.thread_id AND asked.checkpoint_ns = answer.checkpoint_ns
   AND asked.checkpoint_id = answer.checkpoint_id AND asked.task_id = answer.task_id AND asked.channel = '__interrupt__'
WHERE r.run_id = %(run_id)s

-- name: take_answer_back
-- Removes the answer that a run has brought, if the lease is still held: it has been given to whoever had asked.
DELETE FROM checkpoint_writes w
WHERE w.thread_id = %(thread_id)s AND w.checkpoint_ns = '' AND w.task_id = %(null_task)s AND w.channel = '__resume__'
  AND w.lease_token IN (
      SELECT (entry ->> 'token')::uuid
      FROM lgs.run r, jsonb_array_elements(r.lease_history) AS entry
      WHERE r.run_id = %(run_id)s AND r.lease_token = %(token)s AND r.status = 'running')
