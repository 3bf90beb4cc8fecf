"""Holdfast's pure core: the data that crosses processes, tool and policy declarations, effect ids.

Nothing here does I/O or reads a clock, so workflow code may call all of it.
"""
