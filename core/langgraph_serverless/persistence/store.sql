-- name: put_items
-- Items with their new values, in this order. An expired one that nobody has swept yet counts as gone. A trigger removes the
-- vectors of a value that is replaced.
INSERT INTO store (prefix, key, value, created_at, updated_at, expires_at, ttl_minutes)
SELECT item.prefix, item.key, item.value, now(), now(), now() + make_interval(secs => item.ttl * 60), item.ttl
FROM unnest(%(prefixes)s::text[], %(keys)s::text[], %(values)s::jsonb[], %(ttls)s::float8[])
    AS item (prefix, key, value, ttl)
ON CONFLICT (prefix, key) DO UPDATE
SET value = EXCLUDED.value,
    created_at = CASE WHEN store.expires_at <= now() THEN now() ELSE store.created_at END,
    updated_at = EXCLUDED.updated_at, expires_at = EXCLUDED.expires_at, ttl_minutes = EXCLUDED.ttl_minutes

-- name: put_vectors
-- The vectors of items that have just been put in the same transaction. Only where there is an index.
INSERT INTO store_vectors (prefix, key, field_name, embedding)
SELECT v.prefix, v.key, v.field_name, v.embedding::vector
FROM unnest(%(prefixes)s::text[], %(keys)s::text[], %(fields)s::text[], %(embeddings)s::text[])
    AS v (prefix, key, field_name, embedding)
ON CONFLICT (prefix, key, field_name) DO UPDATE SET embedding = EXCLUDED.embedding, updated_at = now()

-- name: get_items
-- The items that have not expired; with `refresh` their time starts anew. Whoever holds one of them just now sets its time
-- himself, so a reader never waits, and two of them never for each other.
WITH wanted AS (
    SELECT prefix, key, bool_or(refresh) AS refresh
    FROM unnest(%(prefixes)s::text[], %(keys)s::text[], %(refresh)s::bool[]) AS w (prefix, key, refresh)
    GROUP BY prefix, key
), free AS (
    SELECT s.prefix, s.key
    FROM store s JOIN wanted w USING (prefix, key)
    WHERE w.refresh AND s.ttl_minutes IS NOT NULL AND s.expires_at > now()
    FOR NO KEY UPDATE OF s SKIP LOCKED
), refreshed AS (
    UPDATE store s
    SET expires_at = greatest(s.expires_at, now() + make_interval(secs => s.ttl_minutes * 60))
    FROM free
    WHERE s.prefix = free.prefix AND s.key = free.key
)
SELECT s.prefix, s.key, s.value, s.created_at, s.updated_at
FROM store s JOIN wanted USING (prefix, key)
WHERE s.expires_at IS NULL OR s.expires_at > now()

-- name: delete_items
-- Items with their vectors, if they are there.
DELETE FROM store
WHERE (prefix, key) IN (SELECT * FROM unnest(%(prefixes)s::text[], %(keys)s::text[]))

-- name: search_items
-- A page of the items at and below a namespace, last updated first; an empty namespace means all but those that are below the
-- roots of tenants (domain/tenants.py). `conditions` is a list
-- of {path, operator, operand: [value]}: an item without the key has null there, and values of different types have no order.
-- As for `get_items`, nobody is waited for.
WITH found AS (
    SELECT s.prefix, s.key, s.value, s.created_at, s.updated_at
    FROM store s
    WHERE CASE WHEN %(prefix)s = '' THEN NOT s.prefix ^@ '.' ELSE s.prefix = %(prefix)s OR s.prefix ^@ (%(prefix)s || '.') END
      AND (s.expires_at IS NULL OR s.expires_at > now())
      AND NOT EXISTS (
          SELECT 1
          FROM jsonb_to_recordset(%(conditions)s) AS c (path text[], operator text, operand jsonb)
          WHERE NOT COALESCE(
              CASE c.operator
                  WHEN '$eq' THEN COALESCE(s.value #> c.path, 'null') = c.operand -> 0
                  WHEN '$ne' THEN COALESCE(s.value #> c.path, 'null') <> c.operand -> 0
                  WHEN 'object' THEN jsonb_typeof(s.value #> c.path) = 'object'
                  ELSE jsonb_typeof(s.value #> c.path) = jsonb_typeof(c.operand -> 0)
                      AND CASE c.operator
                          WHEN '$gt' THEN s.value #> c.path > c.operand -> 0
                          WHEN '$gte' THEN s.value #> c.path >= c.operand -> 0
                          WHEN '$lt' THEN s.value #> c.path < c.operand -> 0
                          WHEN '$lte' THEN s.value #> c.path <= c.operand -> 0
                      END
              END, false))
    ORDER BY s.updated_at DESC, s.key, s.prefix
    LIMIT %(limit)s OFFSET %(offset)s
), free AS (
    SELECT s.prefix, s.key
    FROM store s JOIN found USING (prefix, key)
    WHERE %(refresh)s AND s.ttl_minutes IS NOT NULL
    FOR NO KEY UPDATE OF s SKIP LOCKED
), refreshed AS (
    UPDATE store s
    SET expires_at = greatest(s.expires_at, now() + make_interval(secs => s.ttl_minutes * 60))
    FROM free
    WHERE s.prefix = free.prefix AND s.key = free.key
)
SELECT * FROM found ORDER BY updated_at DESC, key, prefix

-- name: search_items_by_meaning
-- As `search_items`, nearest to a vector first: an item's score is the cosine similarity of its nearest vector, and items
-- without vectors come last. A vector of nothing but zeros has no direction and is like no other. Only where there is an
-- index. Every vector below the namespace is compared, so that filters, pages and scores are exact. The conditions stand here
-- once more, as Postgres does not inline a function of them: 5 microseconds an item, against 1.
WITH found AS (
    SELECT s.prefix, s.key, s.value, s.created_at, s.updated_at, (
        SELECT max(COALESCE(NULLIF(1 - (v.embedding <=> %(query)s::vector), 'NaN'), 0))
        FROM store_vectors v
        WHERE v.prefix = s.prefix AND v.key = s.key
    ) AS score
    FROM store s
    WHERE CASE WHEN %(prefix)s = '' THEN NOT s.prefix ^@ '.' ELSE s.prefix = %(prefix)s OR s.prefix ^@ (%(prefix)s || '.') END
      AND (s.expires_at IS NULL OR s.expires_at > now())
      AND NOT EXISTS (
          SELECT 1
          FROM jsonb_to_recordset(%(conditions)s) AS c (path text[], operator text, operand jsonb)
          WHERE NOT COALESCE(
              CASE c.operator
                  WHEN '$eq' THEN COALESCE(s.value #> c.path, 'null') = c.operand -> 0
                  WHEN '$ne' THEN COALESCE(s.value #> c.path, 'null') <> c.operand -> 0
                  WHEN 'object' THEN jsonb_typeof(s.value #> c.path) = 'object'
                  ELSE jsonb_typeof(s.value #> c.path) = jsonb_typeof(c.operand -> 0)
                      AND CASE c.operator
                          WHEN '$gt' THEN s.value #> c.path > c.operand -> 0
                          WHEN '$gte' THEN s.value #> c.path >= c.operand -> 0
                          WHEN '$lt' THEN s.value #> c.path < c.operand -> 0
                          WHEN '$lte' THEN s.value #> c.path <= c.operand -> 0
                      END
              END, false))
    ORDER BY score DESC NULLS LAST, s.updated_at DESC, s.key, s.prefix
    LIMIT %(limit)s OFFSET %(offset)s
), free AS (
    SELECT s.prefix, s.key
    FROM store s JOIN found USING (prefix, key)
    WHERE %(refresh)s AND s.ttl_minutes IS NOT NULL
    FOR NO KEY UPDATE OF s SKIP LOCKED
), refreshed AS (
    UPDATE store s
    SET expires_at = greatest(s.expires_at, now() + make_interval(secs => s.ttl_minutes * 60))
    FROM free
    WHERE s.prefix = free.prefix AND s.key = free.key
)
SELECT * FROM found ORDER BY score DESC NULLS LAST, updated_at DESC, key, prefix

-- name: list_namespaces
-- The namespaces below a tenant's root that begin and end like this, cut off at a depth, each once. `*` stands for any one label.
SELECT DISTINCT (n.labels[1:COALESCE(%(max_depth)s::int, cardinality(n.labels))]) COLLATE "C" AS namespace
FROM (
    SELECT DISTINCT string_to_array(substr(prefix, length(%(root)s) + 1), '.') AS labels
    FROM store
    WHERE CASE WHEN %(root)s = '' THEN NOT prefix ^@ '.' ELSE prefix ^@ %(root)s END
      AND (expires_at IS NULL OR expires_at > now())
) AS n
WHERE NOT EXISTS (
    SELECT 1 FROM jsonb_to_recordset(%(ends)s) AS e (at_end boolean, path text[])
    WHERE cardinality(n.labels) < cardinality(e.path)
       OR EXISTS (
          SELECT 1 FROM unnest(e.path) WITH ORDINALITY AS p (label, place)
          WHERE p.label <> '*' AND p.label <> n.labels[
              p.place + CASE WHEN e.at_end THEN cardinality(n.labels) - cardinality(e.path) ELSE 0 END]))
ORDER BY namespace
LIMIT %(limit)s OFFSET %(offset)s

-- name: sweep_expired_items
-- Removes expired items with their vectors, a batch at a time; readers do not see them anyway. With an interval, only what had
-- expired when the present one began, so that however often somebody sweeps, rows go once per interval.
DELETE FROM store
WHERE ctid = ANY(ARRAY(
    SELECT ctid  -- where they are: they are locked, and stay there
    FROM store
    WHERE expires_at <= COALESCE(date_bin(make_interval(secs => %(interval)s::float8), now(), 'epoch'), now())
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
