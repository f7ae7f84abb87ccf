-- name: threads
-- Rows of `lgs.thread` after this one, as they are stored.
SELECT thread_id, metadata, config, channel_values, interrupts, error
FROM lgs.thread
WHERE (%(thread_id)s::uuid IS NULL OR thread_id > %(thread_id)s)
ORDER BY thread_id
LIMIT %(limit)s

-- name: renew_thread
-- The row as it is to be stored, unless somebody has written it since. It has not changed for anybody.
UPDATE lgs.thread SET metadata = %(new_metadata)s, config = %(new_config)s, channel_values = %(new_channel_values)s, interrupts = %(new_interrupts)s, error = %(new_error)s
WHERE thread_id = %(thread_id)s
  AND metadata IS NOT DISTINCT FROM %(metadata)s AND config IS NOT DISTINCT FROM %(config)s AND channel_values IS NOT DISTINCT FROM %(channel_values)s AND interrupts IS NOT DISTINCT FROM %(interrupts)s AND error IS NOT DISTINCT FROM %(error)s

-- name: assistants
-- Rows of `lgs.assistant` after this one, as they are stored.
SELECT assistant_id, config, context, metadata
FROM lgs.assistant
WHERE (%(assistant_id)s::uuid IS NULL OR assistant_id > %(assistant_id)s)
ORDER BY assistant_id
LIMIT %(limit)s

-- name: renew_assistant
-- The row as it is to be stored, unless somebody has written it since. It has not changed for anybody.
UPDATE lgs.assistant SET config = %(new_config)s, context = %(new_context)s, metadata = %(new_metadata)s
WHERE assistant_id = %(assistant_id)s
  AND config IS NOT DISTINCT FROM %(config)s AND context IS NOT DISTINCT FROM %(context)s AND metadata IS NOT DISTINCT FROM %(metadata)s

-- name: assistant_versions
-- Rows of `lgs.assistant_version` after this one, as they are stored.
SELECT assistant_id, version, config, context, metadata
FROM lgs.assistant_version
WHERE (%(assistant_id)s::uuid IS NULL OR (assistant_id, version) > (%(assistant_id)s, %(version)s))
ORDER BY assistant_id, version
LIMIT %(limit)s

-- name: renew_assistant_version
-- The row as it is to be stored, unless somebody has written it since. It has not changed for anybody.
UPDATE lgs.assistant_version SET config = %(new_config)s, context = %(new_context)s, metadata = %(new_metadata)s
WHERE assistant_id = %(assistant_id)s AND version = %(version)s
  AND config IS NOT DISTINCT FROM %(config)s AND context IS NOT DISTINCT FROM %(context)s AND metadata IS NOT DISTINCT FROM %(metadata)s

-- name: runs
-- Rows of `lgs.run` after this one, as they are stored.
SELECT run_id, metadata, kwargs, output, error
FROM lgs.run
WHERE (%(run_id)s::uuid IS NULL OR run_id > %(run_id)s)
ORDER BY run_id
LIMIT %(limit)s

-- name: renew_run
-- The row as it is to be stored, unless somebody has written it since. It has not changed for anybody.
UPDATE lgs.run SET metadata = %(new_metadata)s, kwargs = %(new_kwargs)s, output = %(new_output)s, error = %(new_error)s
WHERE run_id = %(run_id)s
  AND metadata IS NOT DISTINCT FROM %(metadata)s AND kwargs IS NOT DISTINCT FROM %(kwargs)s AND output IS NOT DISTINCT FROM %(output)s AND error IS NOT DISTINCT FROM %(error)s

-- name: crons
-- Rows of `lgs.cron` after this one, as they are stored.
SELECT cron_id, payload, metadata
FROM lgs.cron
WHERE (%(cron_id)s::uuid IS NULL OR cron_id > %(cron_id)s)
ORDER BY cron_id
LIMIT %(limit)s

-- name: renew_cron
-- The row as it is to be stored, unless somebody has written it since. It has not changed for anybody.
UPDATE lgs.cron SET payload = %(new_payload)s, metadata = %(new_metadata)s
WHERE cron_id = %(cron_id)s
  AND payload IS NOT DISTINCT FROM %(payload)s AND metadata IS NOT DISTINCT FROM %(metadata)s

-- name: items
-- Rows of `store` after this one, as they are stored.
SELECT prefix, key, value
FROM store
WHERE (%(prefix)s::text IS NULL OR (prefix, key) > (%(prefix)s, %(key)s))
ORDER BY prefix, key
LIMIT %(limit)s

-- name: renew_item
-- The row as it is to be stored, unless somebody has written it since. It has not changed for anybody.
UPDATE store SET value = %(new_value)s
WHERE prefix = %(prefix)s AND key = %(key)s
  AND value IS NOT DISTINCT FROM %(value)s

-- name: checkpoints
-- Rows of `checkpoints` after this one, as they are stored.
SELECT thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata
FROM checkpoints
WHERE (%(thread_id)s::text IS NULL OR (thread_id, checkpoint_ns, checkpoint_id) > (%(thread_id)s, %(checkpoint_ns)s, %(checkpoint_id)s))
ORDER BY thread_id, checkpoint_ns, checkpoint_id
LIMIT %(limit)s

-- name: renew_checkpoint
-- The row as it is to be stored, unless somebody has written it since. It has not changed for anybody.
UPDATE checkpoints SET checkpoint = %(new_checkpoint)s, metadata = %(new_metadata)s
WHERE thread_id = %(thread_id)s AND checkpoint_ns = %(checkpoint_ns)s AND checkpoint_id = %(checkpoint_id)s
  AND checkpoint IS NOT DISTINCT FROM %(checkpoint)s AND metadata IS NOT DISTINCT FROM %(metadata)s

-- name: blobs
-- Rows of `checkpoint_blobs` after this one, as they are stored.
SELECT thread_id, checkpoint_ns, channel, version, blob
FROM checkpoint_blobs
WHERE (%(thread_id)s::text IS NULL OR (thread_id, checkpoint_ns, channel, version) > (%(thread_id)s, %(checkpoint_ns)s, %(channel)s, %(version)s))
ORDER BY thread_id, checkpoint_ns, channel, version
LIMIT %(limit)s

-- name: renew_blob
-- The row as it is to be stored, unless somebody has written it since. It has not changed for anybody.
UPDATE checkpoint_blobs SET blob = %(new_blob)s
WHERE thread_id = %(thread_id)s AND checkpoint_ns = %(checkpoint_ns)s AND channel = %(channel)s AND version = %(version)s
  AND blob IS NOT DISTINCT FROM %(blob)s

-- name: writes
-- Rows of `checkpoint_writes` after this one, as they are stored.
SELECT thread_id, checkpoint_ns, checkpoint_id, task_id, idx, blob
FROM checkpoint_writes
WHERE (%(thread_id)s::text IS NULL OR (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) > (%(thread_id)s, %(checkpoint_ns)s, %(checkpoint_id)s, %(task_id)s, %(idx)s))
ORDER BY thread_id, checkpoint_ns, checkpoint_id, task_id, idx
LIMIT %(limit)s

-- name: renew_write
-- The row as it is to be stored, unless somebody has written it since. It has not changed for anybody.
UPDATE checkpoint_writes SET blob = %(new_blob)s
WHERE thread_id = %(thread_id)s AND checkpoint_ns = %(checkpoint_ns)s AND checkpoint_id = %(checkpoint_id)s AND task_id = %(task_id)s AND idx = %(idx)s
  AND blob IS NOT DISTINCT FROM %(blob)s

-- name: pushes
-- Rows of `lgs.a2a_push` after this one, as they are stored.
SELECT task_id, config_id, value
FROM lgs.a2a_push
WHERE (%(task_id)s::uuid IS NULL OR (task_id, config_id) > (%(task_id)s, %(config_id)s))
ORDER BY task_id, config_id
LIMIT %(limit)s

-- name: renew_push
-- The row as it is to be stored, unless somebody has written it since. It has not changed for anybody.
UPDATE lgs.a2a_push SET value = %(new_value)s
WHERE task_id = %(task_id)s AND config_id = %(config_id)s
  AND value IS NOT DISTINCT FROM %(value)s

-- name: creators
-- Rows of `lgs.cron_creator` after this one, as they are stored.
SELECT cron_id, value
FROM lgs.cron_creator
WHERE (%(cron_id)s::uuid IS NULL OR cron_id > %(cron_id)s)
ORDER BY cron_id
LIMIT %(limit)s

-- name: renew_creator
-- The row as it is to be stored, unless somebody has written it since. It has not changed for anybody.
UPDATE lgs.cron_creator SET value = %(new_value)s
WHERE cron_id = %(cron_id)s
  AND value IS NOT DISTINCT FROM %(value)s
