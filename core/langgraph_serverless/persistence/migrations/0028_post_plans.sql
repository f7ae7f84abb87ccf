-- What functions hold is by keys, so one plan is right for all parameters. Postgres would plan each statement five times with those at
-- hand before it keeps one, on every connection: some ten milliseconds, which a function that has just been started pays for each time.
ALTER FUNCTION lgs.create_run_v1 SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION lgs.settle_v1 SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION lgs.roll_back_v1 SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION lgs.next_due_v1 SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION lgs.save_v1 SET plan_cache_mode = force_generic_plan;
