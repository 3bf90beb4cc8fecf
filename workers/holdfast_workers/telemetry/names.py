"""Every name that telemetry exports: spans, attributes and metrics.

Where OpenTelemetry's conventions have a name, it is theirs (GenAI conventions, https://opentelemetry.io); they are
spelt out here because the package that holds them calls its GenAI part deprecated. Ours begin with `holdfast.`.
"""

from __future__ import annotations

SCOPE = "holdfast"
"""Instrumentation scope of all spans and metrics of ours."""

# Spans
COMMAND_SPAN = "holdfast {command}"
TURN_SPAN = "chat {model}"
CALL_SPAN = "execute_tool {tool}"

# Attributes of OpenTelemetry's conventions
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
CONVERSATION = "gen_ai.conversation.id"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
TOKEN_TYPE = "gen_ai.token.type"
TOOL_NAME = "gen_ai.tool.name"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_TYPE = "gen_ai.tool.type"
ERROR_TYPE = "error.type"

# Attributes of our own
ATTEMPT = "holdfast.attempt"
ATTEMPT_OUTCOME = "holdfast.attempt.outcome"
CALL = "holdfast.call"
CALLS = "holdfast.calls"
COMMAND = "holdfast.command"
COST = "holdfast.cost.usd"
EFFECT_ID = "holdfast.effect_id"
EXIT_CODE = "holdfast.exit_code"
OUTCOME = "holdfast.outcome"
RETRY = "holdfast.retry"
SESSION_STATUS = "holdfast.session.status"
SAGA_STATE = "holdfast.saga.state"
TIER = "holdfast.tier"
TURN = "holdfast.turn"

SPAN_ATTRIBUTES = {
    COMMAND_SPAN: (COMMAND, EXIT_CODE, ERROR_TYPE),
    TURN_SPAN: (
        OPERATION,
        PROVIDER,
        CONVERSATION,
        REQUEST_MODEL,
        RESPONSE_MODEL,
        FINISH_REASONS,
        INPUT_TOKENS,
        OUTPUT_TOKENS,
        CACHE_READ_TOKENS,
        CACHE_WRITE_TOKENS,
        ERROR_TYPE,
        EFFECT_ID,
        TURN,
        ATTEMPT,
        ATTEMPT_OUTCOME,
        CALLS,
        COST,
    ),
    CALL_SPAN: (
        OPERATION,
        CONVERSATION,
        TOOL_NAME,
        TOOL_CALL_ID,
        TOOL_TYPE,
        ERROR_TYPE,
        EFFECT_ID,
        TURN,
        CALL,
        TIER,
        ATTEMPT,
        ATTEMPT_OUTCOME,
        OUTCOME,
    ),
}
"""Which attributes a span may carry."""

# Metrics
TOKEN_USAGE = "gen_ai.client.token.usage"
MODEL_LATENCY = "gen_ai.client.operation.duration"
MODEL_TOKENS = "holdfast.model.tokens"
MODEL_COST = "holdfast.model.cost"
MODEL_UNPRICED = "holdfast.model.unpriced"
TURN_ATTEMPTS = "holdfast.turn.attempts"
CALL_COUNT = "holdfast.calls"
CALL_ATTEMPTS = "holdfast.call.attempts"
CALL_LATENCY = "holdfast.call.duration"
APPROVALS_WAITING = "holdfast.approvals.waiting"
EFFECTS_UNKNOWN = "holdfast.effects.unknown"
SESSIONS = "holdfast.sessions"
SAGAS = "holdfast.sagas"

METRICS = {
    TOKEN_USAGE: ("{token}", (OPERATION, PROVIDER, REQUEST_MODEL, RESPONSE_MODEL, TOKEN_TYPE)),
    MODEL_LATENCY: ("s", (OPERATION, PROVIDER, REQUEST_MODEL, RESPONSE_MODEL, ERROR_TYPE)),
    MODEL_TOKENS: ("{token}", (RESPONSE_MODEL, TOKEN_TYPE)),
    MODEL_COST: ("{USD}", (RESPONSE_MODEL,)),
    MODEL_UNPRICED: ("{attempt}", (RESPONSE_MODEL,)),
    TURN_ATTEMPTS: ("{attempt}", (REQUEST_MODEL, ATTEMPT_OUTCOME, RETRY)),
    CALL_COUNT: ("{call}", (TOOL_NAME, TIER, OUTCOME)),
    CALL_ATTEMPTS: ("{attempt}", (TOOL_NAME, TIER, ATTEMPT_OUTCOME, RETRY)),
    CALL_LATENCY: ("s", (TOOL_NAME, TIER, ATTEMPT_OUTCOME)),
    APPROVALS_WAITING: ("{approval}", ()),
    EFFECTS_UNKNOWN: ("{effect}", ()),
    SESSIONS: ("{session}", (SESSION_STATUS,)),
    SAGAS: ("{saga}", (SAGA_STATE,)),
}
"""Unit and attributes of each metric."""
