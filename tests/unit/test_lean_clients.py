"""httpx works as always without its command line, which nobody asks for in a function."""

import subprocess
import sys

_SCRIPT = """
import sys
from langgraph_serverless import lean_clients
assert not {"click", "rich", "pygments", "httpx._main"} & sys.modules.keys(), sorted(sys.modules)
import httpx
with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(204))) as client:
    print(client.get("http://example.com").status_code)
import httpx._main  # whoever asks for it has it
"""


def test_clients_work_and_their_command_line_is_not_imported() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("204\n", 0), done.stderr
