"""The scripted model: an HTTP server in the Messages API's own format that plays YAML scenarios.

It stands in for Claude where no key is set and in tests; the real `anthropic` client cannot tell the difference,
and a person can: outside its scenarios it says what it is. It keeps nothing of a conversation: a reply follows
from the request's messages alone, so a retry, or another worker, gets the same answer. Only fault counters and
the log of requests live in the process.
"""

from holdfast_workers.scripted_model.app import Received, build_app
from holdfast_workers.scripted_model.scenario import Scenario, ScenarioError, Source, load
from holdfast_workers.scripted_model.server import ScriptedModel, running, serve

__all__ = [
    "Received",
    "Scenario",
    "ScenarioError",
    "ScriptedModel",
    "Source",
    "build_app",
    "load",
    "running",
    "serve",
]
