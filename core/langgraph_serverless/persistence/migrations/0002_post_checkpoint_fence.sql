-- The token of the lease under which each row was written, beside the saver's own columns: null for state updates and for
-- what another program wrote. A rolled-back run's rows are found by it. Runs after the saver's own migrations.
ALTER TABLE checkpoints ADD COLUMN IF NOT EXISTS lease_token uuid;
ALTER TABLE checkpoint_writes ADD COLUMN IF NOT EXISTS lease_token uuid;
ALTER TABLE checkpoint_blobs ADD COLUMN IF NOT EXISTS lease_token uuid;
CREATE INDEX IF NOT EXISTS checkpoints_run ON checkpoints (thread_id, (metadata ->> 'run_id'));
