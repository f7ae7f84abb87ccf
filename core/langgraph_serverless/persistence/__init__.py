"""Postgres: the pool, migrations, and one repository per aggregate with its SQL beside it.

Repositories take an open connection, never commit, and return domain objects.
"""
