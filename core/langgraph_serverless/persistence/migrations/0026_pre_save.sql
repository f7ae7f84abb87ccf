-- What a running run saves of its checkpoints, in one statement and one transaction, while its lease is held (see
-- persistence/checkpoint_rows.py). A function, as the statements in it are planned once per connection, also behind a pooler, and as each
-- of them sees what was committed before it: the lease is locked first, then it is written. It never changes: what takes other
-- parameters, or does something else, is a function of another name, as processes of two versions run side by side.

-- rows: {"blobs": [[thread, namespace, channel, version, type], ...],
--        "checkpoints": [[thread, namespace, id, parent or null, checkpoint, metadata], ...],
--        "writes": [[thread, namespace, checkpoint, task, path, idx, channel, type, whether it replaces what is there], ...]},
-- each only if there are any, and no two rows of the same key. The bytes of blobs and writes come beside it, in the same order.
-- With relaxed, the commit does not wait for the disk: a crash of the server may lose the last such commits. So rows may also name a row
-- of the last one, {"after": [thread, namespace, checkpoint]} or {"after": [thread, namespace, checkpoint, task, idx]}: if that is gone,
-- more may be, and all fails as if the transaction had to be repeated (40001), with everything that is not known to be on disk.
-- Returns whether the lease was held; if not, nothing is written.
CREATE FUNCTION lgs.save_v1(run_id uuid, token uuid, rows jsonb, blobs bytea[], writes bytea[], relaxed boolean)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM lgs.run r
    WHERE r.run_id = $1 AND r.lease_token = $2 AND r.status = 'running'
    FOR SHARE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF $3 ? 'after' AND NOT (CASE WHEN $3 -> 'after' ->> 3 IS NULL THEN EXISTS (
        SELECT FROM checkpoints c
        WHERE c.thread_id = $3 -> 'after' ->> 0 AND c.checkpoint_ns = $3 -> 'after' ->> 1 AND c.checkpoint_id = $3 -> 'after' ->> 2)
    ELSE EXISTS (
        SELECT FROM checkpoint_writes w
        WHERE w.thread_id = $3 -> 'after' ->> 0 AND w.checkpoint_ns = $3 -> 'after' ->> 1 AND w.checkpoint_id = $3 -> 'after' ->> 2
          AND w.task_id = $3 -> 'after' ->> 3 AND w.idx = ($3 -> 'after' ->> 4)::int)
    END) THEN
        RAISE EXCEPTION 'what was saved before is gone' USING ERRCODE = '40001';
    END IF;
    IF $6 THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    IF $3 ? 'blobs' THEN
        INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob, lease_token)
        SELECT e ->> 0, e ->> 1, e ->> 2, e ->> 3, e ->> 4, b, $2
        FROM ROWS FROM (jsonb_array_elements($3 -> 'blobs'), unnest($4)) AS item (e, b)
        ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING;
    END IF;
    IF $3 ? 'writes' THEN
        INSERT INTO checkpoint_writes (
            thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob, lease_token)
        SELECT e ->> 0, e ->> 1, e ->> 2, e ->> 3, e ->> 4, (e ->> 5)::int, e ->> 6, e ->> 7, b, $2
        FROM ROWS FROM (jsonb_array_elements($3 -> 'writes'), unnest($5)) AS item (e, b)
        WHERE NOT (e ->> 8)::boolean
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO NOTHING;
        IF jsonb_path_exists($3, '$.writes[*][8] ? (@ == true)') THEN
            INSERT INTO checkpoint_writes (
                thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob, lease_token)
            SELECT e ->> 0, e ->> 1, e ->> 2, e ->> 3, e ->> 4, (e ->> 5)::int, e ->> 6, e ->> 7, b, $2
            FROM ROWS FROM (jsonb_array_elements($3 -> 'writes'), unnest($5)) AS item (e, b)
            WHERE (e ->> 8)::boolean
            ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE
            SET channel = EXCLUDED.channel, type = EXCLUDED.type, blob = EXCLUDED.blob, lease_token = EXCLUDED.lease_token;
        END IF;
    END IF;
    IF $3 ? 'checkpoints' THEN
        INSERT INTO checkpoints (
            thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata, lease_token)
        SELECT e ->> 0, e ->> 1, e ->> 2, e ->> 3, e -> 4, e -> 5, $2
        FROM jsonb_array_elements($3 -> 'checkpoints') AS item (e)
        ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id) DO UPDATE
        SET checkpoint = EXCLUDED.checkpoint, metadata = EXCLUDED.metadata, lease_token = EXCLUDED.lease_token;
    END IF;
    RETURN true;
END
$$;
