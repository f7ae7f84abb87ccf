-- name: claim_key
-- Takes a key for this transaction, or one whose time is over; no row if it has been used. Waits for whoever else is using it
-- at the moment. A key that has been used stays locked until the transaction ends, so ``used_key`` finds it.
INSERT INTO lgs.idempotency AS taken (tenant, route, scope, key, fingerprint, status, response, expires_at)
VALUES (
    %(tenant)s, %(route)s, %(scope)s, %(key)s, %(fingerprint)s, 0, '',
    clock_timestamp() + make_interval(secs => %(retention)s)
)
ON CONFLICT (tenant, route, scope, key) DO UPDATE
SET fingerprint = excluded.fingerprint,
    status = 0,
    headers = '{}',
    response = '',
    created_at = clock_timestamp(),
    expires_at = excluded.expires_at
WHERE taken.expires_at <= clock_timestamp()
RETURNING true AS claimed

-- name: used_key
-- The request that has used a key, and its answer.
SELECT fingerprint, status, headers, response FROM lgs.idempotency
WHERE tenant = %(tenant)s AND route = %(route)s AND scope = %(scope)s AND key = %(key)s

-- name: keep_answer
-- The answer of the request that has claimed the key, in its transaction: a claim is never seen without one.
UPDATE lgs.idempotency SET status = %(status)s, headers = %(headers)s, response = %(response)s
WHERE tenant = %(tenant)s AND route = %(route)s AND scope = %(scope)s AND key = %(key)s
