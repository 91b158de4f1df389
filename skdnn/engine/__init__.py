"""Formulas traced to a program, planned memory, and the executors that run it."""
