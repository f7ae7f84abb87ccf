-- Row-level security, wherever ROW_LEVEL_SECURITY is on; run by every migration that finds the file changed.
-- Requests take the role lgs_tenant for the time of a transaction (persistence/pool.py), and policies are for it alone: who owns the
-- tables, as system work does, sees all rows. FORCE would add nothing, as nobody acts for a tenant as the owner.
-- A policy reads other tables as the same role, so what hangs on a thread is seen with its thread. Checks of new rows are functions
-- that look anew (VOLATILE): a statement may write a thread and what hangs on it. The look-ups are subqueries for one value, and no
-- EXISTS, for which the planner might read all threads of the tenant at once.

DO $$
DECLARE
    -- since 16 whoever makes a role is a member of it, and may not take it
    allows text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'lgs_tenant') THEN
        BEGIN
            CREATE ROLE lgs_tenant NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- another database of this server has just been migrated
        END;
    END IF;
    IF NOT pg_has_role(current_user, 'lgs_tenant', allows) THEN
        EXECUTE format('GRANT lgs_tenant TO %I', current_user);
    END IF;
    IF NOT has_schema_privilege('lgs_tenant', (SELECT relnamespace FROM pg_class WHERE oid = 'checkpoints'::regclass), 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %s TO lgs_tenant',
            (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = 'checkpoints'::regclass));
    END IF;
END
$$;

-- The tenant of this transaction; null if there is none. It is set with a '=' before it, because what was set in an earlier
-- transaction of the session leaves an empty text behind, and that is a tenant too: of those who have none.
CREATE OR REPLACE FUNCTION lgs.tenant() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN starts_with(current_setting('lgs.tenant', true), '=') THEN substr(current_setting('lgs.tenant', true), 2) END
$$;

CREATE OR REPLACE FUNCTION lgs.item_root(tenant text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN $1 = '' THEN '' ELSE '.' || replace(replace($1, '%', '%25'), '.', '%2E') || '.' END
$$;

-- Whether an item of the store is the tenant's.
CREATE OR REPLACE FUNCTION lgs.owns_item(prefix text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN lgs.tenant() = '' THEN NOT starts_with($1, '.') ELSE starts_with($1, lgs.item_root(lgs.tenant())) END
$$;

-- LangGraph's tables name threads by text, and another program may have put there what is no id.
CREATE OR REPLACE FUNCTION lgs.as_id(name text) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN $1 ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN $1::uuid END
$$;

CREATE OR REPLACE FUNCTION lgs.owns_thread(id uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM lgs.thread t WHERE t.thread_id = $1 AND t.tenant = lgs.tenant());
END
$$;

CREATE OR REPLACE FUNCTION lgs.owns_run(id uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM lgs.run r WHERE r.run_id = $1 AND r.tenant = lgs.tenant());
END
$$;

CREATE OR REPLACE FUNCTION lgs.owns_cron(id uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM lgs.cron c WHERE c.cron_id = $1 AND c.tenant = lgs.tenant());
END
$$;

CREATE OR REPLACE FUNCTION lgs.owns_assistant(id uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM lgs.assistant a WHERE a.assistant_id = $1 AND a.tenant = lgs.tenant());
END
$$;

-- One policy for everything, of rows that are the tenant's or that hang on such.
CREATE OR REPLACE FUNCTION lgs.keep_apart(place regclass, seen text, written text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO lgs_tenant', place);
    EXECUTE format('DROP POLICY IF EXISTS tenant_rows ON %s', place);
    EXECUTE format('CREATE POLICY tenant_rows ON %s TO lgs_tenant USING (%s) WITH CHECK (%s)', place, seen, written);
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', place);
END
$$;

GRANT USAGE ON SCHEMA lgs TO lgs_tenant;
SELECT lgs.keep_apart('lgs.thread', 'tenant = lgs.tenant()', 'tenant = lgs.tenant()');
SELECT lgs.keep_apart('lgs.run', 'tenant = lgs.tenant()', 'tenant = lgs.tenant() AND lgs.owns_thread(thread_id)');
SELECT lgs.keep_apart('lgs.cron', 'tenant = lgs.tenant()',
    'tenant = lgs.tenant() AND (thread_id IS NULL OR lgs.owns_thread(thread_id))');
SELECT lgs.keep_apart('lgs.cron_creator', 'tenant = lgs.tenant()',
    'tenant = lgs.tenant() AND lgs.owns_cron(cron_id)');
SELECT lgs.keep_apart('lgs.outbox', 'tenant = lgs.tenant()', 'tenant = lgs.tenant()');
SELECT lgs.keep_apart('lgs.idempotency', 'tenant = lgs.tenant()', 'tenant = lgs.tenant()');
SELECT lgs.keep_apart('lgs.a2a_turn', 'tenant = lgs.tenant()', 'tenant = lgs.tenant() AND lgs.owns_run(run_id) AND lgs.owns_run(task_id)');
SELECT lgs.keep_apart('lgs.a2a_push', 'tenant = lgs.tenant()', 'tenant = lgs.tenant() AND lgs.owns_run(task_id)');
SELECT lgs.keep_apart('lgs.thread_priority',
    '(SELECT true FROM lgs.thread t WHERE t.thread_id = thread_priority.thread_id)', 'lgs.owns_thread(thread_id)');
SELECT lgs.keep_apart('lgs.run_trace',
    '(SELECT true FROM lgs.run r WHERE r.run_id = run_trace.run_id)', 'lgs.owns_run(run_id)');
SELECT lgs.keep_apart('checkpoints',
    '(SELECT true FROM lgs.thread t WHERE t.thread_id = lgs.as_id(checkpoints.thread_id))',
    'lgs.owns_thread(lgs.as_id(thread_id))');
SELECT lgs.keep_apart('checkpoint_blobs',
    '(SELECT true FROM lgs.thread t WHERE t.thread_id = lgs.as_id(checkpoint_blobs.thread_id))',
    'lgs.owns_thread(lgs.as_id(thread_id))');
SELECT lgs.keep_apart('checkpoint_writes',
    '(SELECT true FROM lgs.thread t WHERE t.thread_id = lgs.as_id(checkpoint_writes.thread_id))',
    'lgs.owns_thread(lgs.as_id(thread_id))');
SELECT lgs.keep_apart('store', 'lgs.owns_item(prefix)', 'lgs.owns_item(prefix)');

-- Default assistants are everybody's to use and nobody's to change. A run locks its assistant, which takes the policy of UPDATE:
-- so they may be locked, and the check refuses the change.
GRANT SELECT, INSERT, UPDATE, DELETE ON lgs.assistant, lgs.assistant_version TO lgs_tenant;
DROP POLICY IF EXISTS tenant_rows ON lgs.assistant;
CREATE POLICY tenant_rows ON lgs.assistant TO lgs_tenant USING (tenant = lgs.tenant()) WITH CHECK (tenant = lgs.tenant());
DROP POLICY IF EXISTS default_rows ON lgs.assistant;
CREATE POLICY default_rows ON lgs.assistant FOR SELECT TO lgs_tenant
    USING (tenant = '' AND metadata @> '{"created_by": "system"}' AND lgs.tenant() IS NOT NULL);
DROP POLICY IF EXISTS default_locks ON lgs.assistant;
CREATE POLICY default_locks ON lgs.assistant FOR UPDATE TO lgs_tenant
    USING (tenant = '' AND metadata @> '{"created_by": "system"}' AND lgs.tenant() IS NOT NULL) WITH CHECK (false);
ALTER TABLE lgs.assistant ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS tenant_rows ON lgs.assistant_version;
CREATE POLICY tenant_rows ON lgs.assistant_version TO lgs_tenant
    USING (lgs.owns_assistant(assistant_id)) WITH CHECK (lgs.owns_assistant(assistant_id));
DROP POLICY IF EXISTS default_rows ON lgs.assistant_version;
CREATE POLICY default_rows ON lgs.assistant_version FOR SELECT TO lgs_tenant
    USING ((SELECT true FROM lgs.assistant a WHERE a.assistant_id = assistant_version.assistant_id));
ALTER TABLE lgs.assistant_version ENABLE ROW LEVEL SECURITY;

DO $$
BEGIN
    IF to_regclass('store_vectors') IS NOT NULL THEN
        PERFORM lgs.keep_apart('store_vectors', 'lgs.owns_item(prefix)', 'lgs.owns_item(prefix)');
    END IF;
END
$$;

-- What migrate finds there, to tell whether it is this.
DO $$
BEGIN
    EXECUTE format('COMMENT ON FUNCTION lgs.tenant() IS %L', current_setting('lgs.policies'));
END
$$;
