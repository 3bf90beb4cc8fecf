"""`holdfast demo`: one real job, with a worker killed in the middle and a refund that waits for a person.

What the demo claims at its end is read from the services' own log, the ledger and Temporal's history, never from
what it did itself.
"""
