-- name: put_item
-- An item with its new value. An expired one that nobody has swept yet counts as gone.
INSERT INTO store (prefix, key, value, created_at, updated_at, expires_at, ttl_minutes)
VALUES (%(prefix)s, %(key)s, %(value)s, now(), now(),
        now() + make_interval(secs => %(ttl)s::float8 * 60), %(ttl)s::float8)
ON CONFLICT (prefix, key) DO UPDATE
SET value = EXCLUDED.value,
    created_at = CASE WHEN store.expires_at <= now() THEN now() ELSE store.created_at END,
    updated_at = EXCLUDED.updated_at, expires_at = EXCLUDED.expires_at, ttl_minutes = EXCLUDED.ttl_minutes

-- name: get_item
-- One item that has not expired; with `refresh` its time starts anew.
WITH refreshed AS (
    UPDATE store
    SET expires_at = greatest(expires_at, now() + make_interval(secs => ttl_minutes * 60))
    WHERE prefix = %(prefix)s AND key = %(key)s AND %(refresh)s AND ttl_minutes IS NOT NULL AND expires_at > now()
)
SELECT prefix, key, value, created_at, updated_at
FROM store
WHERE prefix = %(prefix)s AND key = %(key)s AND (expires_at IS NULL OR expires_at > now())

-- name: delete_item
-- An item, if it is there.
DELETE FROM store WHERE prefix = %(prefix)s AND key = %(key)s

-- name: search_items
-- A page of the items at and below a namespace, last updated first; an empty namespace means all. `conditions` is a list
-- of {key, operator, operand: [value]}: an item without the key, or with a value of another type, matches only `$ne`.
WITH found AS (
    SELECT s.prefix, s.key, s.value, s.created_at, s.updated_at
    FROM store s
    WHERE (%(prefix)s = '' OR s.prefix = %(prefix)s OR s.prefix ^@ (%(prefix)s || '.'))
      AND (s.expires_at IS NULL OR s.expires_at > now())
      AND NOT EXISTS (
          SELECT 1
          FROM jsonb_to_recordset(%(conditions)s) AS c (key text, operator text, operand jsonb)
          WHERE NOT COALESCE(
              CASE c.operator
                  WHEN '$eq' THEN s.value -> c.key = c.operand -> 0
                  WHEN '$ne' THEN s.value -> c.key IS DISTINCT FROM c.operand -> 0
                  ELSE jsonb_typeof(s.value -> c.key) = jsonb_typeof(c.operand -> 0)
                      AND CASE c.operator
                          WHEN '$gt' THEN s.value -> c.key > c.operand -> 0
                          WHEN '$gte' THEN s.value -> c.key >= c.operand -> 0
                          WHEN '$lt' THEN s.value -> c.key < c.operand -> 0
                          WHEN '$lte' THEN s.value -> c.key <= c.operand -> 0
                      END
              END, false))
    ORDER BY s.updated_at DESC, s.key, s.prefix
    LIMIT %(limit)s OFFSET %(offset)s
), refreshed AS (
    UPDATE store s
    SET expires_at = greatest(s.expires_at, now() + make_interval(secs => s.ttl_minutes * 60))
    FROM found
    WHERE s.prefix = found.prefix AND s.key = found.key AND %(refresh)s AND s.ttl_minutes IS NOT NULL
)
SELECT * FROM found ORDER BY updated_at DESC, key, prefix

-- name: list_namespaces
-- The namespaces that begin and end like this, cut off at a depth, each once. `*` stands for any one label.
SELECT DISTINCT (n.labels[1:COALESCE(%(max_depth)s::int, cardinality(n.labels))]) COLLATE "C" AS namespace
FROM (
    SELECT DISTINCT string_to_array(prefix, '.') AS labels
    FROM store
    WHERE expires_at IS NULL OR expires_at > now()
) AS n
WHERE cardinality(n.labels) >= greatest(cardinality(%(prefix)s::text[]), cardinality(%(suffix)s::text[]))
  AND NOT EXISTS (
      SELECT 1 FROM unnest(%(prefix)s::text[]) WITH ORDINALITY AS p (label, place)
      WHERE p.label <> '*' AND p.label <> n.labels[p.place])
  AND NOT EXISTS (
      SELECT 1 FROM unnest(%(suffix)s::text[]) WITH ORDINALITY AS p (label, place)
      WHERE p.label <> '*'
        AND p.label <> n.labels[cardinality(n.labels) - cardinality(%(suffix)s::text[]) + p.place])
ORDER BY namespace
LIMIT %(limit)s OFFSET %(offset)s

-- name: sweep_expired_items
-- Removes expired items, a batch at a time; readers do not see them anyway.
DELETE FROM store
WHERE (prefix, key) IN (
    SELECT prefix, key FROM store WHERE expires_at <= now() LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
