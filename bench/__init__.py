"""Speed of this server beside others of the same API on one machine: ``make bench`` (docs/design/benchmarks.md).

All are started fresh in every round, turn and turn about, and asked the same; what counts is the ratio of two figures of
one round. Nothing here is a test: a figure fails nothing, only a wrong answer does.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / ".data" / "bench"
# how servers are started is the tests' knowledge (dev_server, official_server)
sys.path.insert(0, str(ROOT / "tests" / "support"))
