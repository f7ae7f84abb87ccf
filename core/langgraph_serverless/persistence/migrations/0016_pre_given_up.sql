-- no transaction: see 0005.
--
-- Runs that ended because they had lost every worker, which an operator lists and replays (replays.sql). Few have that.
DROP INDEX CONCURRENTLY IF EXISTS lgs.run_given_up;
CREATE INDEX CONCURRENTLY run_given_up ON lgs.run (finished_at)
    WHERE status = 'error' AND error ->> 'error' = 'RunAttemptsExhausted';
