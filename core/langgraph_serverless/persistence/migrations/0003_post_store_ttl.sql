-- LangGraph keeps an item's time to live in whole minutes, so that refreshing one of less than half a minute would end it
-- at once. Its own statements work on this type as well.
ALTER TABLE store ALTER COLUMN ttl_minutes TYPE double precision;
