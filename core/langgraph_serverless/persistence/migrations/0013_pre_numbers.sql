-- no transaction: see 0005.
--
-- What /metrics counts (system.sql), so that it never reads a whole table.

-- Runs that lost a worker or were handed on, by the time of their last change. Few runs have that, so it stays small.
DROP INDEX CONCURRENTLY IF EXISTS lgs.run_moved;
CREATE INDEX CONCURRENTLY run_moved ON lgs.run (updated_at) WHERE attempt > 1 OR handoffs > 0 OR resuming;

-- Webhooks that were given up, which somebody has to look at; outbox_ended holds the delivered ones too.
DROP INDEX CONCURRENTLY IF EXISTS lgs.outbox_dead;
CREATE INDEX CONCURRENTLY outbox_dead ON lgs.outbox (dead_at) WHERE dead_at IS NOT NULL;
