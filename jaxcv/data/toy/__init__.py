"""Embedded sets, which need no download: handwritten digits, scenes of them, cartoon faces."""
