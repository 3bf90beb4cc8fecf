"""Postgres: schema, named SQL, effects, transcript, the hash chain and its verifier.

The only code that speaks SQL. It knows neither Temporal nor Claude.
"""
