-- Where a run stands in its client's trace (W3C Trace Context), for those that have one: what its worker and its webhook go on with.
-- A table of its own: most runs have none, and a further column of lgs.run would break statements on it that processes of
-- the version before have prepared.
CREATE TABLE lgs.run_trace (
    run_id uuid PRIMARY KEY REFERENCES lgs.run ON DELETE CASCADE,
    -- traceparent, tracestate
    trace jsonb NOT NULL
);
