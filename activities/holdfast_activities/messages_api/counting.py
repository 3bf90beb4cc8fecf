"""The API's own count of a request, before it is sent: free of charge, where the provider offers it.

A count is a help and never a condition: without one a turn goes on, and the next learns from its usage.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from holdfast_activities.messages_api.request import ModelRequest

if TYPE_CHECKING:
    from holdfast_activities.messages_api.client import ModelClient

TIMEOUT_S = 5.0
"""Longer than the API takes for the largest request, shorter than a person waits for a first word."""
COUNTED_PARAMS = frozenset({"model", "system", "messages", "tools", "tool_choice", "thinking"})
"""What the API takes to count; it refuses the rest of a request as unknown."""
_NOT_OFFERED = frozenset({403, 404, 405, 501})

_log = logging.getLogger("holdfast.model")


class TokenCounter:
    """Counts for one worker, which finds out once that its provider cannot."""

    def __init__(self, client: ModelClient) -> None:
        self._client = client
        self._offered = True

    async def count(self, request: ModelRequest) -> int | None:
        """Input tokens of the request; None where the provider does not tell, or not now."""
        if not self._offered:
            return None
        from anthropic import AnthropicError, APIError, APIStatusError

        counting: Any = self._client.messages.count_tokens  # its types know no raw blocks
        params = {name: value for name, value in request.params.items() if name in COUNTED_PARAMS}
        try:
            counted = await counting(**params, extra_headers=dict(request.headers), timeout=TIMEOUT_S)
        except APIStatusError as error:
            if error.status_code in _NOT_OFFERED:
                self._give_up(f"it answered {error.status_code}")
            return None
        except (APIError, TypeError):  # the connection; no credentials: the model call says more
            return None
        except AnthropicError as error:  # the client itself: Bedrock
            self._give_up(str(error))
            return None
        tokens = getattr(counted, "input_tokens", None)
        if not isinstance(tokens, int):  # a gateway that answers 200 to whatever it does not know
            self._give_up("it answered with no count")
            return None
        return tokens

    def _give_up(self, reason: str) -> None:
        self._offered = False
        _log.warning(
            "this provider counts no tokens before a turn; its usage afterwards is all", extra={"reason": reason}
        )
