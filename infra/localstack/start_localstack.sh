#!/usr/bin/env bash
# Starts LocalStack on the host, without containers, and waits until it answers.
#
#   start_localstack.sh LOCALSTACK_VENV FUNCTION_VENV [PORT] [STATE_DIR]
#
# LOCALSTACK_VENV  made by `make setup-localstack`
# FUNCTION_VENV    has the functions' dependencies, awslambdaric among them
# Prints the process id; stop it with `kill PID` (it stops its function processes itself).
# The log is STATE_DIR/localstack.log. Nothing is fetched from the network.
set -euo pipefail
localstack_venv=$(cd "$1" && pwd)
function_venv=$(cd "$2" && pwd)
port=${3:-4566}
state=${4:-$(mktemp -d)}
mkdir -p "$state/volume" "$state/root" "$state/tmp"
state=$(cd "$state" && pwd)
cd "$state"
env LAMBDA_RUNTIME_EXECUTOR=process \
    LAMBDA_PROCESS_PYTHON="$function_venv/bin/python" \
    GATEWAY_LISTEN="127.0.0.1:$port" \
    LOCALSTACK_HOST="localhost:$port" \
    LOCALSTACK_VOLUME_DIR="$state/volume" FILESYSTEM_ROOT="$state/root" TMPDIR="$state/tmp" \
    DISABLE_EVENTS=1 SKIP_SSL_CERT_DOWNLOAD=1 DNS_ADDRESS=0 \
    LAMBDA_RUNTIME_ENVIRONMENT_TIMEOUT="${LAMBDA_RUNTIME_ENVIRONMENT_TIMEOUT:-60}" \
    LAMBDA_KEEPALIVE_MS="${LAMBDA_KEEPALIVE_MS:-300000}" \
    LAMBDA_RETRY_BASE_DELAY="${LAMBDA_RETRY_BASE_DELAY:-2}" \
    AWS_EC2_METADATA_DISABLED=true LS_LOG="${LS_LOG:-info}" \
    "$localstack_venv/bin/python" -m localstack.runtime.main </dev/null >"$state/localstack.log" 2>&1 &
pid=$!
for _ in $(seq 120); do
    if curl -sf "http://127.0.0.1:$port/_localstack/health" >/dev/null; then
        echo "$pid"
        exit 0
    fi
    kill -0 "$pid" 2>/dev/null || { tail -20 "$state/localstack.log" >&2; exit 1; }
    sleep 0.5
done
echo "LocalStack did not answer in time" >&2
kill "$pid"
exit 1
