"""``python -m langgraph_serverless.lambda_runtime``: what the wrapper script puts in the place of the managed client."""

from langgraph_serverless.lambda_runtime.loop import main

main()
