"""Stateful Ray actors: work that is expensive to start, started once."""
