-- name: describe_server
-- What kind of server this is, and its time. A pooler gives its clients process ids of its own, so the real one tells it.
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number,
    current_setting('max_connections')::int AS most_connections,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
    current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync,
    pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on' AS read_only,
    pg_backend_pid() AS backend_pid, EXTRACT(EPOCH FROM clock_timestamp())::float8 AS now,
    EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'vector') AS has_vector,
    to_regclass('lgs.migration') IS NOT NULL AS migrated

-- name: list_migrations
-- Those that this database has, with the checksums of their files.
SELECT name, checksum FROM lgs.migration ORDER BY name

-- name: look_at_tenants
-- Whether tenants are kept apart here: tables without policies, whether this user may act for a tenant, and whether it sees all rows.
SELECT ARRAY(
        SELECT c.relname::text FROM pg_class c
        WHERE c.relkind = 'r' AND NOT c.relrowsecurity AND c.relnamespace = 'lgs'::regnamespace AND c.relname <> 'migration'
        ORDER BY 1) AS open,
    COALESCE((
        SELECT pg_has_role(
            current_user, r.oid, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
        FROM pg_roles r WHERE r.rolname = 'lgs_tenant'), false) AS member,
    NOT row_security_active('lgs.thread') AS sees_all

-- name: invalid_indexes
-- Indexes of ours whose building was cut off: they cost writes and serve nobody.
SELECT c.relname AS index FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'lgs' AND NOT i.indisvalid
ORDER BY 1

-- name: waiting_runs
-- Runs that have waited for this many seconds for nothing but a worker, the oldest first. `limits` and `most` are those of
-- `claim_fairly` (queue.sql).
WITH full_groups AS (
    SELECT g.name
    FROM (SELECT COALESCE(concurrency_key, 'default') AS name FROM lgs.run WHERE status = 'running') AS g
    GROUP BY g.name
    HAVING count(*) >= NULLIF(COALESCE((%(limits)s::jsonb ->> g.name)::int, %(most)s::int), 0)
)
SELECT r.run_id, r.thread_id, EXTRACT(EPOCH FROM now() - r.available_at)::bigint AS seconds FROM lgs.run r
WHERE r.status = 'pending' AND r.available_at < now() - make_interval(secs => %(seconds)s::float8)
  AND NOT EXISTS (SELECT 1 FROM lgs.run o WHERE o.thread_id = r.thread_id AND o.status = 'running')
  AND COALESCE(r.concurrency_key, 'default') NOT IN (SELECT name FROM full_groups)
ORDER BY r.available_at
LIMIT %(limit)s

-- name: overdue_crons
-- Crons that should have fired this many seconds ago, the latest first.
SELECT cron_id, EXTRACT(EPOCH FROM now() - next_run_date)::bigint AS seconds FROM lgs.cron
WHERE enabled AND next_run_date < now() - make_interval(secs => %(seconds)s::float8)
ORDER BY next_run_date
LIMIT %(limit)s

-- name: dead_webhooks
-- Webhooks that were given up, the newest first. Not the URL, which may hold a secret.
SELECT outbox_id, run_id, thread_id, last_error FROM lgs.outbox
WHERE dead_at IS NOT NULL
ORDER BY dead_at DESC
LIMIT %(limit)s
