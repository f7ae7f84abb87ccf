-- name: insert_cron
-- A new cron. Its thread, if it has one, must be visible: no row otherwise. It is locked as the reference to it would lock
-- it, so that a thread that is just being deleted is missing and no violation. The cron is of the thread's tenant, as its runs are.
WITH thread AS (
    SELECT thread_id, tenant FROM lgs.thread WHERE thread_id = %(thread_id)s AND purge_at IS NULL FOR KEY SHARE
)
INSERT INTO lgs.cron (
    cron_id, tenant, assistant_id, thread_id, user_id, schedule, timezone, end_time, payload, metadata,
    on_run_completed, enabled, next_run_date
)
SELECT %(cron_id)s, COALESCE((SELECT tenant FROM thread), %(tenant)s), %(assistant_id)s, %(thread_id)s, %(user_id)s, %(schedule)s, %(timezone)s, %(end_time)s,
       %(payload)s, %(metadata)s, %(on_run_completed)s, %(enabled)s, %(next_run_date)s
WHERE %(thread_id)s::uuid IS NULL
   OR EXISTS (SELECT 1 FROM thread)
RETURNING *

-- name: insert_cron_creator
-- Who has made a cron, where there is authentication.
INSERT INTO lgs.cron_creator (cron_id, tenant, value) VALUES (%(cron_id)s, %(tenant)s, %(value)s)

-- name: get_cron_creator
-- Who has made a cron; no row without authentication.
SELECT value FROM lgs.cron_creator WHERE cron_id = %(cron_id)s

-- name: replace_cron_creator
-- The runs of a cron are made in the name of somebody else from now on.
UPDATE lgs.cron_creator SET value = %(value)s WHERE cron_id = %(cron_id)s

-- name: lock_cron_count
-- Whoever makes crons of this tenant takes turns until the transaction ends, so that they can be counted.
SELECT pg_advisory_xact_lock(hashtextextended('lgs.cron of ' || %(tenant)s::text, 0))

-- name: has_as_many_crons
-- Whether a tenant has this many crons; no more than those are read.
SELECT count(*) >= %(most)s AS reached
FROM (SELECT 1 FROM lgs.cron WHERE tenant = %(tenant)s LIMIT %(most)s) AS counted

-- name: get_cron
-- One cron.
SELECT * FROM lgs.cron WHERE cron_id = %(cron_id)s

-- name: lock_cron
-- One cron, locked for a change; a scheduler that is about to fire it passes by.
SELECT * FROM lgs.cron WHERE cron_id = %(cron_id)s FOR UPDATE

-- name: update_cron
-- A cron's new content; what may not change is not here.
UPDATE lgs.cron
SET schedule = %(schedule)s, timezone = %(timezone)s, end_time = %(end_time)s, payload = %(payload)s,
    metadata = %(metadata)s, on_run_completed = %(on_run_completed)s, enabled = %(enabled)s,
    next_run_date = %(next_run_date)s, updated_at = clock_timestamp()
WHERE cron_id = %(cron_id)s
RETURNING *

-- name: delete_cron
-- Runs that it has made stay.
DELETE FROM lgs.cron WHERE cron_id = %(cron_id)s RETURNING cron_id

-- name: assistant_exists
-- Whether a cron's assistant exists, and does until the cron is there: who deletes the assistant takes it along.
SELECT metadata FROM lgs.assistant WHERE assistant_id = %(assistant_id)s FOR SHARE

-- name: claim_due_cron
-- The cron that is due longest, locked until its run is made and its date moved on; other schedulers pass it by.
-- `skipped` are those that have failed in this tick. Its thread and its assistant are locked too, but never waited for: whoever
-- deletes one of them holds it and waits for the cron (`free` says whether it worked; what is gone already is nobody's).
-- `fired`: a run for this time exists, because the date was set back since. now() and not clock_timestamp(), which may change
-- from row to row, so that no index could be searched with it.
WITH due AS (
    SELECT *
    FROM lgs.cron
    WHERE enabled
      AND next_run_date <= COALESCE(%(now)s::timestamptz, now())
      AND NOT cron_id = ANY(%(skipped)s::uuid[])
    ORDER BY next_run_date, cron_id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
), assistant AS MATERIALIZED (
    SELECT a.assistant_id FROM lgs.assistant a JOIN due USING (assistant_id) FOR KEY SHARE OF a SKIP LOCKED
), thread AS MATERIALIZED (
    SELECT t.thread_id FROM lgs.thread t JOIN due USING (thread_id) FOR UPDATE OF t SKIP LOCKED
)
SELECT due.*,
       COALESCE(%(now)s::timestamptz, now()) AS now,
       (due.thread_id IS NULL OR EXISTS (SELECT 1 FROM thread))
           AND (EXISTS (SELECT 1 FROM assistant)
               OR NOT EXISTS (SELECT 1 FROM lgs.assistant a WHERE a.assistant_id = due.assistant_id)) AS free,
       EXISTS (SELECT 1 FROM lgs.run r WHERE r.cron_id = due.cron_id AND r.cron_due_at = due.next_run_date) AS fired,
       (SELECT c.value FROM lgs.cron_creator c WHERE c.cron_id = due.cron_id) AS value
FROM due

-- name: move_cron
-- The next time of a cron that has fired, or null at its end. Not a change of its own, so `updated_at` stays.
UPDATE lgs.cron SET next_run_date = %(next_run_date)s WHERE cron_id = %(cron_id)s

-- name: put_off_cron
-- The next time of a cron that could not be fired, unless somebody else has fired or changed it since.
UPDATE lgs.cron SET next_run_date = %(next_run_date)s WHERE cron_id = %(cron_id)s AND next_run_date = %(due_at)s

-- name: database_time
-- Schedules go by the database's clock.
SELECT clock_timestamp() AS now
