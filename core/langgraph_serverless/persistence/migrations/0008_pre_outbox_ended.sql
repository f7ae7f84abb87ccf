-- Webhooks that have been delivered or given up are removed after a week (sweeps.sql); this finds them.
CREATE INDEX outbox_ended ON lgs.outbox (COALESCE(delivered_at, dead_at))
    WHERE delivered_at IS NOT NULL OR dead_at IS NOT NULL;
