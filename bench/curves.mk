# What bends when something grows, and what a start of the deployed functions takes. Included by the Makefile.

.PHONY: curves cold-start-deployed

curves: setup ## Runs per second, latencies, searches and storage while something grows; writes docs/guides/scaling.md (ARGS="--scale 0.1 --dry" for a quick look)
	$(BIN)/python -m bench.curves $(ARGS)

cold-start-deployed: setup setup-localstack ## Init Duration of every function on LocalStack; writes docs/guides/running-on-lambda.md
	PUBLISH_COLD_STARTS=1 PROJECT_WITHOUT_APP=1 $(BIN)/python -m pytest tests/e2e/test_cold_starts.py -m slow -s $(ARGS)
