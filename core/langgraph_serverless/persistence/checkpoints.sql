-- name: newest_checkpoint
-- The newest checkpoint of a namespace, with its values and what its tasks have written.
SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, c.checkpoint, c.metadata,
    (SELECT array_agg(ARRAY[convert_to(b.channel, 'UTF8'), convert_to(b.type, 'UTF8'), b.blob])
     FROM jsonb_each_text(c.checkpoint -> 'channel_versions') AS v (channel, version)
     JOIN checkpoint_blobs b ON b.thread_id = c.thread_id AND b.checkpoint_ns = c.checkpoint_ns
        AND b.channel = v.channel AND b.version = v.version
    ) AS channel_values,
    (SELECT array_agg(ARRAY[convert_to(w.task_id, 'UTF8'), convert_to(w.channel, 'UTF8'), convert_to(w.type, 'UTF8'), w.blob,
         convert_to(w.task_path, 'UTF8'), convert_to(w.idx::text, 'UTF8')])
     FROM checkpoint_writes w
     WHERE w.thread_id = c.thread_id AND w.checkpoint_ns = c.checkpoint_ns AND w.checkpoint_id = c.checkpoint_id
    ) AS pending_writes
FROM checkpoints c
WHERE c.thread_id = %(thread_id)s AND c.checkpoint_ns = %(namespace)s
ORDER BY c.checkpoint_id DESC
LIMIT 1

-- name: named_checkpoint
-- The same of one checkpoint; with the thread's highest id, whatever namespace that is in.
SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, c.checkpoint, c.metadata,
    (SELECT array_agg(ARRAY[convert_to(b.channel, 'UTF8'), convert_to(b.type, 'UTF8'), b.blob])
     FROM jsonb_each_text(c.checkpoint -> 'channel_versions') AS v (channel, version)
     JOIN checkpoint_blobs b ON b.thread_id = c.thread_id AND b.checkpoint_ns = c.checkpoint_ns
        AND b.channel = v.channel AND b.version = v.version
    ) AS channel_values,
    (SELECT array_agg(ARRAY[convert_to(w.task_id, 'UTF8'), convert_to(w.channel, 'UTF8'), convert_to(w.type, 'UTF8'), w.blob,
         convert_to(w.task_path, 'UTF8'), convert_to(w.idx::text, 'UTF8')])
     FROM checkpoint_writes w
     WHERE w.thread_id = c.thread_id AND w.checkpoint_ns = c.checkpoint_ns AND w.checkpoint_id = c.checkpoint_id
    ) AS pending_writes,
    (SELECT max(o.checkpoint_id) FROM checkpoints o WHERE o.thread_id = c.thread_id) AS highest
FROM checkpoints c
WHERE c.thread_id = %(thread_id)s AND c.checkpoint_ns = %(namespace)s AND c.checkpoint_id = %(checkpoint_id)s

-- name: list_checkpoints
-- Checkpoints of a thread, newest first. The values of all of them come with the first, each once.
WITH page AS MATERIALIZED (
    SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, c.checkpoint, c.metadata,
        (SELECT array_agg(ARRAY[convert_to(w.task_id, 'UTF8'), convert_to(w.channel, 'UTF8'), convert_to(w.type, 'UTF8'), w.blob,
             convert_to(w.task_path, 'UTF8'), convert_to(w.idx::text, 'UTF8')])
         FROM checkpoint_writes w
         WHERE w.thread_id = c.thread_id AND w.checkpoint_ns = c.checkpoint_ns AND w.checkpoint_id = c.checkpoint_id
        ) AS pending_writes
    FROM checkpoints c
    WHERE c.thread_id = %(thread_id)s
      AND (%(namespace)s::text IS NULL OR c.checkpoint_ns = %(namespace)s)
      AND (%(checkpoint_id)s::text IS NULL OR c.checkpoint_id = %(checkpoint_id)s)
      AND (%(filter)s::jsonb IS NULL OR c.metadata @> %(filter)s)
      AND (%(before)s::text IS NULL OR c.checkpoint_id < %(before)s)
    ORDER BY c.checkpoint_id DESC
    LIMIT %(limit)s
), wanted AS (
    -- what is not in the checkpoint's own document; a snapshot of a delta channel is marked with true
    SELECT DISTINCT p.checkpoint_ns, v.channel, v.version
    FROM page p, jsonb_each_text(p.checkpoint -> 'channel_versions') AS v (channel, version)
    WHERE COALESCE(p.checkpoint -> 'channel_values' -> v.channel, 'true') = 'true'
)
SELECT p.*, CASE WHEN row_number() OVER (ORDER BY p.checkpoint_id DESC) = 1 THEN (
    SELECT array_agg(ARRAY[convert_to(b.checkpoint_ns, 'UTF8'), convert_to(b.channel, 'UTF8'), convert_to(b.version, 'UTF8'),
        convert_to(b.type, 'UTF8'), b.blob])
    FROM wanted
    JOIN checkpoint_blobs b ON b.thread_id = %(thread_id)s AND b.checkpoint_ns = wanted.checkpoint_ns
        AND b.channel = wanted.channel AND b.version = wanted.version
) END AS all_values
FROM page p
ORDER BY p.checkpoint_id DESC

-- name: save
-- What a running run has put, if its lease is still held: `held` says so.
SELECT lgs.save_v1(
    %(run_id)s, %(token)s, %(save_rows)s::jsonb, %(save_blobs)s::bytea[], %(save_writes)s::bytea[], %(relaxed)s) AS held
