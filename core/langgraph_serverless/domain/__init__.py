"""Pure rules: frozen dataclasses, enums, transition tables. No I/O, no clock, no framework."""
