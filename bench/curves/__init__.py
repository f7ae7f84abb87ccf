"""Curves: how this server behaves when something grows. ``make curves`` measures them and puts them into the guide.

Four things grow: workers, open streams, threads in the database, checkpoints. Each module has one of them and gives a ``Part``. What is
measured is this server alone, on Postgres and Valkey of its own with the settings that they come with. Nothing here is a test:
a figure fails nothing, only a wrong answer does.
"""

from bench import ROOT

PROJECT = ROOT / "bench" / "curves" / "project" / "langgraph.json"
GUIDE = ROOT / "docs" / "guides" / "scaling.md"
PICTURES = ROOT / "docs" / "pictures"
FIGURES = ROOT / "benchmarks" / "results" / "curves.json"
