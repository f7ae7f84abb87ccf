-- name: count_queued
-- How many runs of a tenant wait in the queue, counted as far as it matters.
SELECT count(*) AS queued
FROM (SELECT FROM lgs.run WHERE status = 'pending' AND tenant = %(tenant)s LIMIT %(most)s) AS waiting
