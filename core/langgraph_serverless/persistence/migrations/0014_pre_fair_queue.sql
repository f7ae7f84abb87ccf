-- no transaction: see 0005.
--
-- What a project's priority handler has said of a thread, once and for all of its runs. A table of its own: most deployments
-- have no handler, and a further column would break statements on threads that processes of the version before have prepared.
CREATE TABLE IF NOT EXISTS lgs.thread_priority (
    thread_id uuid PRIMARY KEY REFERENCES lgs.thread ON DELETE CASCADE,
    -- lower first
    priority smallint NOT NULL CHECK (priority BETWEEN -5 AND 5),
    -- null: the default group; a run's concurrency_key is its thread's fairness group
    fairness_group text CHECK (fairness_group <> 'default')
);

-- The queue as a claim that shares it between fairness groups reads it: group by group, and in each the oldest first.
DROP INDEX CONCURRENTLY IF EXISTS lgs.run_queue_of_group;
CREATE INDEX CONCURRENTLY run_queue_of_group
    ON lgs.run (priority, COALESCE(concurrency_key, 'default'), available_at, run_id) WHERE status = 'pending';

-- Nothing has ever used it: running runs are few, and are counted from the index that keeps them one per thread.
DROP INDEX CONCURRENTLY IF EXISTS lgs.run_concurrency;
