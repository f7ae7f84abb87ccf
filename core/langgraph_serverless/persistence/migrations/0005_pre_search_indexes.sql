-- no transaction: CREATE INDEX CONCURRENTLY lets runs go on while it reads a large table, and cannot be part of one.
-- Every statement may be repeated: a build that was cut off leaves an invalid index, which the next attempt drops first.
--
-- Searches read one page of ids out of an index and only then the rows (persistence/filters.py), so the sort indexes hold
-- what is sorted by, the id that breaks ties, and the status, which is the filter that comes with a sort most often.

-- Sorted by status, and one status sorted by time: the list of what waits for a human. Takes the place of thread_status,
-- which could not break ties.
DROP INDEX CONCURRENTLY IF EXISTS lgs.thread_by_status;
CREATE INDEX CONCURRENTLY thread_by_status ON lgs.thread (status DESC, updated_at DESC, thread_id) WHERE purge_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS lgs.thread_status;

-- Takes the place of thread_created, which did not have the status.
DROP INDEX CONCURRENTLY IF EXISTS lgs.thread_by_created;
CREATE INDEX CONCURRENTLY thread_by_created ON lgs.thread (created_at DESC, thread_id) INCLUDE (status)
    WHERE purge_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS lgs.thread_created;

-- The one sort of threads that had no index.
DROP INDEX CONCURRENTLY IF EXISTS lgs.thread_by_state_updated;
CREATE INDEX CONCURRENTLY thread_by_state_updated ON lgs.thread (state_updated_at DESC, thread_id) INCLUDE (status)
    WHERE purge_at IS NULL;

-- Searches by values. It keeps four bytes per path and value, whatever their length: about 0.1 ms more for a run on a thread
-- with 100 KB of values, 3 to 10 ms with 1 MB. Long to build on a large table: it has to read every thread's values.
DROP INDEX CONCURRENTLY IF EXISTS lgs.thread_values;
CREATE INDEX CONCURRENTLY thread_values ON lgs.thread USING gin (channel_values jsonb_path_ops);

-- Assistants are rarely written: an index for every sort. Names are sorted in any case, as graphs are.
DROP INDEX CONCURRENTLY IF EXISTS lgs.assistant_by_updated;
CREATE INDEX CONCURRENTLY assistant_by_updated ON lgs.assistant (updated_at DESC, assistant_id);
DROP INDEX CONCURRENTLY IF EXISTS lgs.assistant_by_name;
CREATE INDEX CONCURRENTLY assistant_by_name ON lgs.assistant (lower(name) DESC, assistant_id);
DROP INDEX CONCURRENTLY IF EXISTS lgs.assistant_by_graph;
CREATE INDEX CONCURRENTLY assistant_by_graph ON lgs.assistant (lower(graph_id) DESC, assistant_id);

-- Crons are written whenever they fire. The two that serve lookups get the id, so that they serve a sort as well; the end
-- has none, as few crons have one.
DROP INDEX CONCURRENTLY IF EXISTS lgs.cron_by_assistant;
CREATE INDEX CONCURRENTLY cron_by_assistant ON lgs.cron (assistant_id DESC, cron_id);
DROP INDEX CONCURRENTLY IF EXISTS lgs.cron_assistant;
DROP INDEX CONCURRENTLY IF EXISTS lgs.cron_by_thread;
CREATE INDEX CONCURRENTLY cron_by_thread ON lgs.cron (thread_id DESC, cron_id);
DROP INDEX CONCURRENTLY IF EXISTS lgs.cron_thread;
DROP INDEX CONCURRENTLY IF EXISTS lgs.cron_by_next;
CREATE INDEX CONCURRENTLY cron_by_next ON lgs.cron (next_run_date DESC, cron_id);
DROP INDEX CONCURRENTLY IF EXISTS lgs.cron_by_updated;
CREATE INDEX CONCURRENTLY cron_by_updated ON lgs.cron (updated_at DESC, cron_id);
DROP INDEX CONCURRENTLY IF EXISTS lgs.cron_metadata;
CREATE INDEX CONCURRENTLY cron_metadata ON lgs.cron USING gin (metadata jsonb_path_ops);
