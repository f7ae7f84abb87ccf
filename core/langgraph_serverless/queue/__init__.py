"""Runs as a queue: heartbeats that keep leases alive, and the bell that wakes workers.

The statements that claim and settle runs are SQL on the run row and live in ``persistence/queue.sql``.
"""
