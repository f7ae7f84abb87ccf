-- name: blobs_of_checkpoints
-- Values of channels that have rows of their own, each once, of however many checkpoints.
SELECT b.checkpoint_ns, b.channel, b.version, b.type, b.blob
FROM unnest(%(namespaces)s::text[], %(channels)s::text[], %(versions)s::text[]) AS w (checkpoint_ns, channel, version)
JOIN checkpoint_blobs b
    ON b.thread_id = %(thread_id)s AND b.checkpoint_ns = w.checkpoint_ns AND b.channel = w.channel AND b.version = w.version

-- name: save
-- What a running run has put, if its lease is still held: `held` says so.
SELECT lgs.save_v1(
    %(run_id)s, %(token)s, %(save_rows)s::jsonb, %(save_blobs)s::bytea[], %(save_writes)s::bytea[], %(relaxed)s) AS held
