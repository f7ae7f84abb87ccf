-- A thread's time to live counts from its last use: it starts anew when a run begins or ends (the status changes) and when a
-- state is written. In the database, because many statements do these things, and none of them may forget it.
CREATE FUNCTION lgs.restart_time_to_live() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.expires_at := clock_timestamp() + make_interval(secs => NEW.ttl_minutes * 60);
    RETURN NEW;
END
$$;
CREATE TRIGGER thread_used BEFORE UPDATE OF status, state_updated_at ON lgs.thread FOR EACH ROW
WHEN (NEW.ttl_minutes IS NOT NULL
    AND (NEW.status IS DISTINCT FROM OLD.status OR NEW.state_updated_at IS DISTINCT FROM OLD.state_updated_at))
EXECUTE FUNCTION lgs.restart_time_to_live();
