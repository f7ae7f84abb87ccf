-- name: insert_assistant
-- A new assistant with its first version; no row if the id is taken.
WITH inserted AS (
    INSERT INTO lgs.assistant (assistant_id, tenant, graph_id, version, name, description, config, context, metadata)
    VALUES (%(assistant_id)s, %(tenant)s, %(graph_id)s, 1, %(name)s, %(description)s, %(config)s, %(context)s, %(metadata)s)
    ON CONFLICT (assistant_id) DO NOTHING
    RETURNING *
), versioned AS (
    INSERT INTO lgs.assistant_version (
        assistant_id, version, graph_id, name, description, config, context, metadata, created_at)
    SELECT assistant_id, version, graph_id, name, description, config, context, metadata, created_at FROM inserted
)
SELECT * FROM inserted

-- name: insert_defaults
-- The assistants that every graph has from the start, as far as they are missing. Those that nobody has changed follow the
-- description of their graph.
WITH written AS (
    INSERT INTO lgs.assistant (assistant_id, graph_id, version, name, description, metadata)
    SELECT d.assistant_id, d.graph_id, 1, d.graph_id, d.description, %(metadata)s
    FROM unnest(%(assistant_ids)s::uuid[], %(graph_ids)s::text[], %(descriptions)s::text[])
        AS d (assistant_id, graph_id, description)
    ON CONFLICT (assistant_id) DO UPDATE
    SET description = excluded.description, updated_at = now()
    WHERE assistant.version = 1 AND assistant.metadata = excluded.metadata
        AND assistant.description IS DISTINCT FROM excluded.description
    RETURNING *
)
INSERT INTO lgs.assistant_version (
    assistant_id, version, graph_id, name, description, config, context, metadata, created_at)
SELECT assistant_id, version, graph_id, name, description, config, context, metadata, created_at FROM written
ON CONFLICT (assistant_id, version) DO UPDATE SET description = excluded.description

-- name: get_assistant
-- The current version of an assistant.
SELECT * FROM lgs.assistant WHERE assistant_id = %(assistant_id)s

-- name: lock_assistant
-- The same, locked: versions are numbered one after the other.
SELECT * FROM lgs.assistant WHERE assistant_id = %(assistant_id)s FOR NO KEY UPDATE

-- name: lock_assistant_to_delete
-- The same against everybody who makes something for it: runs and crons.
SELECT 1 AS found FROM lgs.assistant WHERE assistant_id = %(assistant_id)s FOR UPDATE

-- name: add_version
-- A new version, numbered after the highest one, which becomes the current one. The assistant must be locked.
WITH versioned AS (
    INSERT INTO lgs.assistant_version (assistant_id, version, graph_id, name, description, config, context, metadata)
    SELECT %(assistant_id)s, max(v.version) + 1, %(graph_id)s, %(name)s, %(description)s, %(config)s, %(context)s,
        %(metadata)s
    FROM lgs.assistant_version v
    WHERE v.assistant_id = %(assistant_id)s
    RETURNING *
)
UPDATE lgs.assistant a
SET version = v.version, graph_id = v.graph_id, name = v.name, description = v.description, config = v.config,
    context = v.context, metadata = v.metadata, updated_at = v.created_at
FROM versioned v
WHERE a.assistant_id = v.assistant_id
RETURNING a.*

-- name: list_versions
-- A page of an assistant's versions, newest first.
SELECT * FROM lgs.assistant_version
WHERE assistant_id = %(assistant_id)s AND metadata @> %(metadata)s
ORDER BY version DESC
LIMIT %(limit)s OFFSET %(offset)s

-- name: set_latest
-- Makes an existing version the current one.
UPDATE lgs.assistant a
SET version = v.version, graph_id = v.graph_id, name = v.name, description = v.description, config = v.config,
    context = v.context, metadata = v.metadata, updated_at = now()
FROM lgs.assistant_version v
WHERE a.assistant_id = %(assistant_id)s AND v.assistant_id = a.assistant_id AND v.version = %(version)s
RETURNING a.*

-- name: lock_crons
-- The crons that go with an assistant and with threads, locked in one order.
SELECT cron_id FROM lgs.cron
WHERE assistant_id = %(assistant_id)s OR thread_id = ANY(%(thread_ids)s)
ORDER BY cron_id
FOR UPDATE

-- name: delete_assistant
-- An assistant with its versions and its crons; runs and threads stay.
WITH crons AS (
    DELETE FROM lgs.cron WHERE assistant_id = %(assistant_id)s
)
DELETE FROM lgs.assistant WHERE assistant_id = %(assistant_id)s RETURNING assistant_id
