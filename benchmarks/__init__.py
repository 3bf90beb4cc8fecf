"""What a turn of Holdfast costs beside the barest Temporal loop that does the same work.

`python -m benchmarks.turns` (or `make bench`) starts the stack as `holdfast up` does, with a worker of each kind
and a model that answers at once, runs both in alternation, prints a table and writes `benchmarks/results.json`.
docs/performance.md says how to read it. Nothing here is shipped: the packages never import it.
"""
