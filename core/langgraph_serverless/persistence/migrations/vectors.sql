-- Beside LangGraph's table of vectors, wherever there is an index; run at every start. A value that is replaced takes its vectors
-- along: LangGraph's own statements replace vectors of the same name only, so that a search would find what is no longer there.
CREATE OR REPLACE FUNCTION lgs.forget_vectors() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- somebody may have dropped the table to start anew
    IF to_regclass('store_vectors') IS NOT NULL THEN
        DELETE FROM store_vectors WHERE prefix = NEW.prefix AND key = NEW.key;
    END IF;
    RETURN NULL;
END;
$$;
CREATE OR REPLACE TRIGGER store_forget_vectors AFTER UPDATE OF value ON store
    FOR EACH ROW EXECUTE FUNCTION lgs.forget_vectors();
