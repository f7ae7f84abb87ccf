-- The token under which a checkpoint was written, beside the saver's own columns: null for state updates and for
-- checkpoints that another program wrote. Runs after the saver's own migrations, which make the table.
ALTER TABLE checkpoints ADD COLUMN IF NOT EXISTS lease_token uuid;
CREATE INDEX IF NOT EXISTS checkpoints_run ON checkpoints (thread_id, (metadata ->> 'run_id'));
