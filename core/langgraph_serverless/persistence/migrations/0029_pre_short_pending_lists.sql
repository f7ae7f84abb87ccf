-- What is written to the two GIN indexes of threads gathers in a list that every search has to read, and whoever makes it longer than
-- allowed sorts all of it into the index: with a million threads and the usual 4 MB one write in 30,000 took a second, and searches
-- by metadata four times as long before it. With 256 kB it is a tenth of a second, and the same work in all (ADR 0040).
ALTER INDEX lgs.thread_metadata SET (gin_pending_list_limit = 256);
ALTER INDEX lgs.thread_values SET (gin_pending_list_limit = 256);
