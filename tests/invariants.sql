-- Every query of this file returns no rows, whatever has happened before. Numbers are those of the invariants in
-- docs/design/invariants.md. `%(sweep)s` is the longest time (seconds) that a sweep may take to come by.

-- 1a thread is busy without a live run
SELECT t.thread_id FROM lgs.thread t
WHERE t.status = 'busy'
  AND NOT EXISTS (SELECT 1 FROM lgs.run r WHERE r.thread_id = t.thread_id AND r.status IN ('pending', 'running'));

-- 1b thread has a live run and is not busy
SELECT t.thread_id, t.status FROM lgs.thread t
WHERE t.status <> 'busy'
  AND EXISTS (SELECT 1 FROM lgs.run r WHERE r.thread_id = t.thread_id AND r.status IN ('pending', 'running'));

-- 2 two running runs on one thread
SELECT thread_id, count(*) FROM lgs.run WHERE status = 'running' GROUP BY thread_id HAVING count(*) > 1;

-- 3 running without a token, or with a lease that nobody took back
SELECT run_id, lease_expires_at FROM lgs.run
WHERE status = 'running'
  AND (lease_token IS NULL OR lease_expires_at < now() - make_interval(secs => 2 * %(sweep)s));

-- 4 final without a finish, or with a lease
SELECT run_id, status FROM lgs.run
WHERE status IN ('success', 'error', 'timeout', 'interrupted')
  AND (finished_at IS NULL OR lease_token IS NOT NULL OR lease_expires_at IS NOT NULL);

-- 5 pending for longer than a worker may take to look, on a free thread, while a worker is there
SELECT r.run_id, r.available_at FROM lgs.run r
WHERE r.status = 'pending' AND %(worker)s AND r.available_at < now() - make_interval(secs => %(pending)s)
  AND NOT EXISTS (SELECT 1 FROM lgs.run o WHERE o.thread_id = r.thread_id AND o.status = 'running');

-- 6 a checkpoint whose token is none of its run's
SELECT c.thread_id, c.checkpoint_id, c.lease_token FROM checkpoints c
WHERE c.lease_token IS NOT NULL
  AND NOT EXISTS (
      SELECT 1 FROM lgs.run r, jsonb_array_elements(r.lease_history) AS entry
      WHERE r.thread_id::text = c.thread_id AND (entry ->> 'token')::uuid = c.lease_token)
  AND EXISTS (SELECT 1 FROM lgs.run r WHERE r.run_id::text = c.metadata ->> 'run_id');

-- 7 two checkpoints of one run with the same step and namespace and different parents
SELECT thread_id, checkpoint_ns, metadata ->> 'run_id' AS run_id, metadata ->> 'step' AS step, count(*) FROM checkpoints
WHERE metadata ->> 'run_id' IS NOT NULL AND lease_token IS NOT NULL AND metadata ->> 'source' IN ('input', 'loop')
GROUP BY 1, 2, 3, 4 HAVING count(DISTINCT COALESCE(parent_checkpoint_id, '')) > 1;

-- 8 a checkpoint, blob or write of a thread that is gone
SELECT 'checkpoints' AS place, c.thread_id FROM checkpoints c
WHERE c.lease_token IS NOT NULL AND NOT EXISTS (SELECT 1 FROM lgs.thread t WHERE t.thread_id::text = c.thread_id)
UNION ALL
SELECT 'checkpoint_blobs', b.thread_id FROM checkpoint_blobs b
WHERE b.lease_token IS NOT NULL AND NOT EXISTS (SELECT 1 FROM lgs.thread t WHERE t.thread_id::text = b.thread_id)
UNION ALL
SELECT 'checkpoint_writes', w.thread_id FROM checkpoint_writes w
WHERE w.lease_token IS NOT NULL AND NOT EXISTS (SELECT 1 FROM lgs.thread t WHERE t.thread_id::text = w.thread_id);

-- 9a an outbox row for a run that has not ended
SELECT o.outbox_id FROM lgs.outbox o JOIN lgs.run r USING (run_id) WHERE r.status IN ('pending', 'running');

-- 9b a run that ended with a webhook less than a week ago and has no outbox row
SELECT r.run_id FROM lgs.run r
WHERE r.webhook IS NOT NULL AND r.finished_at > now() - interval '7 days' AND r.status IN ('success', 'error', 'timeout', 'interrupted')
  AND NOT EXISTS (SELECT 1 FROM lgs.outbox o WHERE o.run_id = r.run_id);

-- 10 a cron with two runs for one due time
SELECT cron_id, cron_due_at FROM lgs.run WHERE cron_id IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1;

-- 11 an idempotency row past its time that still holds an answer of a server error
SELECT key FROM lgs.idempotency WHERE status >= 500;

-- 12 a row whose tenant differs from its parent's
SELECT r.run_id FROM lgs.run r JOIN lgs.thread t USING (thread_id) WHERE r.tenant <> t.tenant
UNION ALL
SELECT c.cron_id FROM lgs.cron c JOIN lgs.thread t USING (thread_id) WHERE c.tenant <> t.tenant;

-- 13 attempts, hand-offs and leases that do not add up: each claim is one entry, each hand-off one that ended so
SELECT run_id, attempt, handoffs, lease_history FROM lgs.run
WHERE jsonb_array_length(lease_history) <> attempt + handoffs
   OR handoffs <> (SELECT count(*) FROM jsonb_array_elements(lease_history) AS entry WHERE entry ->> 'end' = 'handoff');
