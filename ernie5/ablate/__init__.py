"""Ablations: a file of axes becomes runs with the same data, a table, and a page."""
