"""Sends the cases of ``cases/<resource>.json`` to servers and says how their answers differ.

    python compare.py URL                 compare with the recorded answers of the official server
    python compare.py URL REFERENCE_URL   compare two servers
    python compare.py --record URL        record the answers of the official server, which serves a copy of
                                          ``tests/fixtures/projects/differential`` (one graph, one worker, 10 jobs)

``--resource NAME`` (repeatable) and ``--only PATTERN`` ask some of the cases.

A case is a list of steps on a thread of its own (``{thread}``; ``"thread": {...}`` is the body that makes it,
``"thread": false`` does without; ``"alone": true`` asks it after all others, by itself, as the official server's store answers
several requests together and fails them together). A step sends a request (``send``) with ``json``, or with ``raw``, which is text or a list
of ``[text, times]``, sent as it is and as application/json unless ``headers`` say otherwise. Besides:

    keep          names of values of its answer for later steps; ``{run}``, the last run, and ``{first_run}`` are kept alone
    until         repeats it until the answer holds these values; ``until_status`` until it has this status
    behind        lets later steps run while it is being answered
    unordered     events, or the items of a list, may come in any order
    quiet         of a stream that does not end: what has come when nothing came for so many seconds
    headers_too   names of headers that are compared besides those that always are (``conversation.HEADERS``)
    look          "head" compares status and headers, "shape" the kinds of values instead of the values, "keys" the
                  paths to them

``{unique}`` is a fresh word, ``{uuid1}`` to ``{uuid4}`` are fresh ids in ascending order. Use them wherever a case lists or
counts, so that it sees its own rows only: all cases are asked at once.

``"alone": true`` keeps a case apart from all others: in the reference, store requests of one moment share their failures.

Answers are compared as normalised documents: ids and times by kind, kept values by name. Differences that are meant are
listed in ``differences.json``, each with its reason; ``at`` is a pattern for the place (``comparison.Difference``) or a list
of patterns, which ``reference`` and ``ours`` may narrow down to values, ``reference_like`` and ``ours_like`` to what a regular
expression finds. Another status than the reference's must be named: ``"status": 422``, or a list of those that ours has.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from case_files import RESOURCES, load_cases, load_differences, load_recorded, record
from comparison import Deliberate, judge
from conversation import ask_all


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("reference", nargs="?")
    parser.add_argument("--record", action="store_true", help="write the answers of URL to recorded/")
    parser.add_argument("--resource", action="append", choices=RESOURCES, help="ask the cases of this resource")
    parser.add_argument("--only", default="*", help="a pattern for the names of cases")
    arguments = parser.parse_args()
    resources = arguments.resource or RESOURCES
    cases = load_cases(resources, arguments.only)
    ours = await ask_all(arguments.url, cases)
    failed = [f"{name}: {answers[0]['failed']}" for name, answers in ours.items() if "failed" in answers[0]]
    if failed:
        print("could not be asked:", *failed, sep="\n    ")
    if arguments.record:
        if failed:
            return 1
        changed = record(ours)
        print(f"{len(cases)} cases recorded, {len(changed)} of them new or changed", *changed, sep="\n    ")
        return 0
    reference = await ask_all(arguments.reference, cases) if arguments.reference else load_recorded(resources)
    deliberate = Deliberate(load_differences())
    verdicts = []
    for case in cases:
        name = case["name"]
        verdicts += judge(case, reference.get(name, "<not recorded>"), ours[name], deliberate)
    for verdict in verdicts:
        print(*verdict.left, sep="\n", end="\n" if verdict.left else "")
    left = sum(bool(verdict.left) for verdict in verdicts)
    meant = sum(bool(verdict.meant) for verdict in verdicts if not verdict.left)
    print(
        f"{len(cases)} cases, {len(verdicts)} requests: {len(verdicts) - left - meant} equal, {meant} different on purpose, "
        f"{left} different"
    )
    if not arguments.resource and arguments.only == "*" and deliberate.unused:
        print("differences that are no longer there:", *deliberate.unused, sep="\n    ")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
