-- Who has made a cron, as the project's authentication has found him: its runs are made in his name. None of crons without
-- authentication. A table of its own, as a further column of lgs.cron would break statements on it that processes of the version
-- before have prepared.
CREATE TABLE lgs.cron_creator (
    cron_id uuid PRIMARY KEY REFERENCES lgs.cron ON DELETE CASCADE,
    tenant text NOT NULL DEFAULT '',
    -- identity, permissions, user. Encrypted where data is.
    value jsonb NOT NULL
);
