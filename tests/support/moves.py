"""Which fairness groups had how many runs running at any moment: noted by a trigger in the database itself, so nobody is missed.

``WATCH`` before, ``MOST_RUNNING`` afterwards, ``UNWATCH`` where others use the database too.
"""

from __future__ import annotations

from typing import LiteralString

WATCH: LiteralString = """
CREATE TABLE moves (name text, delta int, at timestamptz);
CREATE FUNCTION note_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO moves VALUES (COALESCE(NEW.concurrency_key, 'default'),
        (NEW.status = 'running')::int - (OLD.status = 'running')::int, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER note_move AFTER UPDATE OF status ON lgs.run FOR EACH ROW
    WHEN ((OLD.status = 'running') <> (NEW.status = 'running')) EXECUTE FUNCTION note_move()
"""
#: A run stops counting a moment before its end can be seen, and counts a moment before its claim can be: claims that take
#: turns are never too many by this, those that do not are.
MOST_RUNNING: LiteralString = """
SELECT name, max(running) AS most
FROM (SELECT name, sum(delta) OVER (PARTITION BY name ORDER BY at, delta) AS running FROM moves) AS m
GROUP BY name
"""
UNWATCH: LiteralString = "DROP TABLE moves; DROP FUNCTION note_move CASCADE"
