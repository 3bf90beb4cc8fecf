"""The `holdfast` command: click commands and their rendering.

It speaks to Temporal and Postgres through `holdfast_workers` and `holdfast_ledger` only, and imports them where a
command uses them: what costs time is never on the way to `holdfast --version`.
"""
