# The API without a client: sh curl.sh [URL]
url=${1:-http://127.0.0.1:2024}
post() { curl -sS -N -X POST "$url$1" -H 'content-type: application/json' -d "$2"; echo; }

echo '# a run on no thread, waited for'
post /runs/wait '{"assistant_id": "minimal", "input": {"text": "Hello"}}'

echo '# a stream of two modes'
post /runs/stream '{"assistant_id": "minimal", "input": {"text": "Hi"}, "stream_mode": ["values", "updates"]}'

echo '# a thread, made by its first run, that stops and asks'
thread=$(cat /proc/sys/kernel/random/uuid)
post "/threads/$thread/runs/wait" \
  '{"assistant_id": "human_in_the_loop", "input": {"topic": "tea"}, "if_not_exists": "create"}'

echo '# its answer'
post "/threads/$thread/runs/wait" '{"assistant_id": "human_in_the_loop", "command": {"resume": "approve"}}'

echo '# its state, in parts'
curl -sS "$url/threads/$thread/state?select=values.status&select=next"; echo

echo '# what is wrong is said'
post /runs/wait '{"assistant_id": "nobody", "input": {}}'
