-- name: newest_checkpoint
-- The highest id among a thread's checkpoints, whatever namespace it is in.
SELECT max(checkpoint_id) AS checkpoint_id FROM checkpoints WHERE thread_id = %(thread_id)s HAVING count(*) > 0

-- name: put_checkpoint
-- A checkpoint and its new channel values, if the lease is still held: `held` says so.
WITH fence AS (
    SELECT run_id FROM lgs.run
    WHERE run_id = %(run_id)s AND lease_token = %(token)s AND status = 'running'
    FOR SHARE
), blobs AS (
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob, lease_token)
    SELECT %(thread_id)s, %(namespace)s, b.channel, b.version, b.type, b.blob, %(token)s
    FROM fence, unnest(%(channels)s::text[], %(versions)s::text[], %(types)s::text[], %(blobs)s::bytea[])
        AS b (channel, version, type, blob)
    ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING
), saved AS (
    INSERT INTO checkpoints (
        thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata, lease_token)
    SELECT %(thread_id)s, %(namespace)s, %(checkpoint_id)s, %(parent_id)s, %(checkpoint)s, %(metadata)s, %(token)s
    FROM fence
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id) DO UPDATE
    SET checkpoint = EXCLUDED.checkpoint, metadata = EXCLUDED.metadata, lease_token = EXCLUDED.lease_token
)
SELECT EXISTS (SELECT 1 FROM fence) AS held

-- name: put_writes
-- A task's writes, if the lease is still held; what is there already stays.
WITH fence AS (
    SELECT run_id FROM lgs.run
    WHERE run_id = %(run_id)s AND lease_token = %(token)s AND status = 'running'
    FOR SHARE
), saved AS (
    INSERT INTO checkpoint_writes (
        thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob, lease_token)
    SELECT %(thread_id)s, %(namespace)s, %(checkpoint_id)s, %(task_id)s, %(task_path)s,
        w.idx, w.channel, w.type, w.blob, %(token)s
    FROM fence, unnest(%(indexes)s::int[], %(channels)s::text[], %(types)s::text[], %(blobs)s::bytea[])
        AS w (idx, channel, type, blob)
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING
)
SELECT EXISTS (SELECT 1 FROM fence) AS held

-- name: replace_writes
-- A task's special writes, if the lease is still held; they replace what is there.
WITH fence AS (
    SELECT run_id FROM lgs.run
    WHERE run_id = %(run_id)s AND lease_token = %(token)s AND status = 'running'
    FOR SHARE
), saved AS (
    INSERT INTO checkpoint_writes (
        thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob, lease_token)
    SELECT %(thread_id)s, %(namespace)s, %(checkpoint_id)s, %(task_id)s, %(task_path)s,
        w.idx, w.channel, w.type, w.blob, %(token)s
    FROM fence, unnest(%(indexes)s::int[], %(channels)s::text[], %(types)s::text[], %(blobs)s::bytea[])
        AS w (idx, channel, type, blob)
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE
    SET channel = EXCLUDED.channel, type = EXCLUDED.type, blob = EXCLUDED.blob, lease_token = EXCLUDED.lease_token
)
SELECT EXISTS (SELECT 1 FROM fence) AS held
