"""A small travel desk: the services of an agency, and the tools with which an agent works there.

`travel_desk.services` is a program of its own, standing for the systems other companies run; it imports
nothing of Holdfast. `travel_desk.tools` is what an author writes to let an agent use them.
"""
