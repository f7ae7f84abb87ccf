"""Plain SQL, numbered, applied once each in order.

A ``pre`` file is safe while the previous version's code runs; a ``post`` file needs this version's code.
"""
