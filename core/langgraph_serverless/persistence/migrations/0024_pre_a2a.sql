-- A2A: tasks that take several runs, and where their clients want to be notified. A task is a run, and is named by it; a message
-- to a task makes a further run that belongs to it. Run and thread stay as they are, since most runs have nothing to do with A2A.

-- One row per run that A2A has made.
CREATE TABLE lgs.a2a_turn (
    run_id uuid PRIMARY KEY REFERENCES lgs.run ON DELETE CASCADE,
    tenant text NOT NULL DEFAULT '',
    -- the task's first run; the run itself, unless it goes on with a task
    task_id uuid NOT NULL REFERENCES lgs.run ON DELETE CASCADE,
    -- of the user's message that has made it: where its part of the conversation begins; null if somebody else has made it
    message_id text,
    canceled_at timestamptz
);
CREATE INDEX a2a_turn_task ON lgs.a2a_turn (task_id);

CREATE TABLE lgs.a2a_push (
    task_id uuid NOT NULL REFERENCES lgs.run ON DELETE CASCADE,
    config_id text NOT NULL,
    tenant text NOT NULL DEFAULT '',
    url text NOT NULL,
    -- the protocol's version that the receiver speaks: 0.3 or 1.0
    dialect text NOT NULL,
    -- what the receiver is to be shown: token; scheme and credentials of an Authorization header. Encrypted where data is.
    value jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, config_id)
);

-- Writes a notification into the outbox for everybody who wants to know what has become of a run's task. What it says of the thread is
-- what the transaction that ends the run has written. The sender makes the protocol's task of it (domain/a2a_push.py).
CREATE FUNCTION lgs.a2a_notify(ended lgs.run, canceled boolean) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO lgs.outbox (outbox_id, tenant, run_id, thread_id, url, payload)
    SELECT gen_random_uuid(), p.tenant, ($1).run_id, ($1).thread_id, p.url,
        lgs.webhook_payload($1, ($1).status, t.channel_values, ($1).error) || jsonb_build_object(
            'interrupts', t.interrupts, 'shown', p.value,
            'a2a', jsonb_build_object(
                'task_id', p.task_id, 'config_id', p.config_id, 'dialect', p.dialect,
                'waiting', t.settled_status = 'interrupted', 'canceled', $2,
                'turns', (
                    SELECT jsonb_agg(jsonb_build_array(m.message_id, m.task_id) ORDER BY r.created_at, r.run_id)
                    FROM lgs.a2a_turn m JOIN lgs.run r USING (run_id)
                    WHERE r.thread_id = ($1).thread_id AND m.message_id IS NOT NULL)))
    FROM lgs.a2a_push p, lgs.thread t
    WHERE t.thread_id = ($1).thread_id
      AND p.task_id = COALESCE((SELECT task_id FROM lgs.a2a_turn WHERE run_id = ($1).run_id), ($1).run_id)
$$;

-- Whatever statement ends a run, of this version or the one before. It fires when the statement is complete, so the thread is
-- as the run has left it.
CREATE FUNCTION lgs.a2a_run_ended() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lgs.a2a_notify(NEW, NEW.status = 'interrupted');
    RETURN NULL;
END
$$;
CREATE TRIGGER a2a_run_ended AFTER UPDATE OF status ON lgs.run FOR EACH ROW
    WHEN (OLD.status IN ('pending', 'running') AND NEW.status NOT IN ('pending', 'running'))
    EXECUTE FUNCTION lgs.a2a_run_ended();
