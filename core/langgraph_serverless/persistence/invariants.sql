-- Every query of this file returns no rows, whatever has happened before. Numbers are those of the invariants in
-- docs/design/invariants.md. `%(sweep)s` is the longest time (seconds) that a sweep may take to come by. Tests run them after
-- whatever they did, `langgraph-serverless doctor` on a deployment's own database.

-- name: busy_without_run
-- A thread is busy without a pending or running run.
SELECT t.thread_id FROM lgs.thread t
WHERE t.status = 'busy'
  AND NOT EXISTS (SELECT 1 FROM lgs.run r WHERE r.thread_id = t.thread_id AND r.status IN ('pending', 'running'))

-- name: run_without_busy
-- A thread has a pending or running run and is not busy.
SELECT t.thread_id, t.status FROM lgs.thread t
WHERE t.status <> 'busy'
  AND EXISTS (SELECT 1 FROM lgs.run r WHERE r.thread_id = t.thread_id AND r.status IN ('pending', 'running'))

-- name: two_running
-- Two runs are running on one thread.
SELECT thread_id, count(*) FROM lgs.run WHERE status = 'running' GROUP BY thread_id HAVING count(*) > 1

-- name: lost_lease
-- A running run has no token, or a lease that nobody took back.
SELECT run_id, thread_id, lease_expires_at FROM lgs.run
WHERE status = 'running'
  AND (lease_token IS NULL OR lease_expires_at < now() - make_interval(secs => 2 * %(sweep)s::float8))

-- name: ended_halfway
-- A run has ended without an end, or with a lease.
SELECT run_id, thread_id, status FROM lgs.run
WHERE status IN ('success', 'error', 'timeout', 'interrupted')
  AND (finished_at IS NULL OR lease_token IS NOT NULL OR lease_expires_at IS NOT NULL)

-- name: left_waiting
-- A run waits for longer than a worker may take to look, on a free thread, while a worker is there.
SELECT r.run_id, r.thread_id, r.available_at FROM lgs.run r
WHERE r.status = 'pending' AND %(worker)s::boolean
  AND r.available_at < now() - make_interval(secs => %(pending)s::float8)
  AND NOT EXISTS (SELECT 1 FROM lgs.run o WHERE o.thread_id = r.thread_id AND o.status = 'running')

-- name: foreign_checkpoint
-- A checkpoint was written under a token that none of its thread's runs ever had.
SELECT c.thread_id, c.checkpoint_id, c.lease_token FROM checkpoints c
WHERE c.lease_token IS NOT NULL
  AND NOT EXISTS (
      SELECT 1 FROM lgs.run r, jsonb_array_elements(r.lease_history) AS entry
      WHERE r.thread_id::text = c.thread_id AND (entry ->> 'token')::uuid = c.lease_token)
  AND EXISTS (SELECT 1 FROM lgs.run r WHERE r.run_id::text = c.metadata ->> 'run_id')

-- name: forked_run
-- Two checkpoints of one run have the same step and namespace and different parents: a fork that nobody asked for.
SELECT thread_id, checkpoint_ns, metadata ->> 'run_id' AS run_id, metadata ->> 'step' AS step, count(*) FROM checkpoints
WHERE metadata ->> 'run_id' IS NOT NULL AND lease_token IS NOT NULL AND metadata ->> 'source' IN ('input', 'loop')
GROUP BY 1, 2, 3, 4 HAVING count(DISTINCT COALESCE(parent_checkpoint_id, '')) > 1

-- name: orphaned_state
-- A checkpoint, blob or write belongs to a thread that is gone.
SELECT 'checkpoints' AS place, c.thread_id FROM checkpoints c
WHERE c.lease_token IS NOT NULL AND NOT EXISTS (SELECT 1 FROM lgs.thread t WHERE t.thread_id::text = c.thread_id)
UNION ALL
SELECT 'checkpoint_blobs', b.thread_id FROM checkpoint_blobs b
WHERE b.lease_token IS NOT NULL AND NOT EXISTS (SELECT 1 FROM lgs.thread t WHERE t.thread_id::text = b.thread_id)
UNION ALL
SELECT 'checkpoint_writes', w.thread_id FROM checkpoint_writes w
WHERE w.lease_token IS NOT NULL AND NOT EXISTS (SELECT 1 FROM lgs.thread t WHERE t.thread_id::text = w.thread_id)

-- name: early_webhook
-- A webhook was noted for a run that has not ended.
SELECT o.outbox_id, o.run_id, o.thread_id FROM lgs.outbox o JOIN lgs.run r USING (run_id)
WHERE r.status IN ('pending', 'running')
  AND NOT EXISTS (SELECT 1 FROM jsonb_array_elements(r.lease_history) AS e (entry) WHERE e.entry ? 'replayed')

-- name: missing_webhook
-- A run with a webhook ended less than a week ago, and no webhook was noted.
SELECT r.run_id, r.thread_id FROM lgs.run r
WHERE r.webhook IS NOT NULL AND r.finished_at > now() - interval '7 days' AND r.status IN ('success', 'error', 'timeout', 'interrupted')
  AND NOT EXISTS (SELECT 1 FROM lgs.outbox o WHERE o.run_id = r.run_id)

-- name: cron_twice
-- A cron has made two runs for one due time.
SELECT cron_id, cron_due_at FROM lgs.run WHERE cron_id IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1

-- name: kept_failure
-- An Idempotency-Key was committed without the answer to what it made, or with an error.
SELECT route, key, status FROM lgs.idempotency
WHERE status NOT BETWEEN 200 AND 299 OR response = '' OR octet_length(fingerprint) <> 32

-- name: mixed_tenants
-- A row's tenant differs from its parent's.
SELECT 'run' AS kind, r.run_id AS id, r.thread_id FROM lgs.run r JOIN lgs.thread t USING (thread_id) WHERE r.tenant <> t.tenant
UNION ALL
SELECT 'cron', c.cron_id, c.thread_id FROM lgs.cron c JOIN lgs.thread t USING (thread_id) WHERE c.tenant <> t.tenant
UNION ALL
SELECT 'creator', k.cron_id, c.thread_id FROM lgs.cron_creator k JOIN lgs.cron c USING (cron_id) WHERE k.tenant <> c.tenant
UNION ALL
SELECT 'webhook', o.outbox_id, o.thread_id FROM lgs.outbox o JOIN lgs.run r USING (run_id) WHERE o.tenant <> r.tenant
UNION ALL
SELECT 'turn', a.run_id, r.thread_id FROM lgs.a2a_turn a JOIN lgs.run r USING (run_id) WHERE a.tenant <> r.tenant
UNION ALL
SELECT 'push', a.task_id, r.thread_id FROM lgs.a2a_push a JOIN lgs.run r ON r.run_id = a.task_id WHERE a.tenant <> r.tenant

-- name: miscounted
-- Attempts, hand-offs and leases of a run do not add up: each claim is one lease, each hand-off one that ended so or
-- was before a replay.
SELECT run_id, thread_id, attempt, handoffs, lease_history FROM lgs.run
WHERE jsonb_array_length(lease_history) <> attempt + handoffs
   OR handoffs <> (SELECT count(*) FROM jsonb_array_elements(lease_history) AS entry WHERE entry ->> 'end' = 'handoff' OR entry ? 'replayed')
