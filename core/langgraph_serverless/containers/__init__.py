"""Wiring: each module builds what one kind of process needs, lazily, and nothing else.

``api`` serves every resource that needs no graph; ``state`` adds the user's graphs; ``worker`` executes runs;
``scheduler`` ticks; ``migrate`` prepares a database; ``laptop`` puts all of them into one process. There are no
module-level singletons: a function handler holds the one container of its process.
"""
