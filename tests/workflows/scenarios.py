"""What the scripted model plays for the bench of `conftest`: one scenario per tool that a test needs."""

LOOK_TWICE = """
name: look-twice
description: look-twice.
example: look
match: look
turns:
  - calls:
      - {tool: look, input: {what: roof, seconds: 0.2}}
      - {tool: look, input: {what: cellar}}
  - text: "{{ every.look | join(', ') }}"
"""

PAY = """
name: pay
description: pay.
example: pay
match: pay
turns:
  - calls: [{tool: pay, input: {cents: 500}}]
  - text: "{% if outcome.pay == 'ok' %}{{ results.pay }}{% else %}{{ outcome.pay }}: {{ reason.pay }}{% endif %}"
"""

LOSE = """
name: lose
description: lose.
example: lose
match: lose
turns:
  - calls: [{tool: lost, input: {what: parcel}}]
  - text: "{{ outcome.lost }}"
"""

RESERVE = """
name: reserve
description: reserve.
example: reserve
match: reserve
turns:
  - calls: [{tool: reserve, input: {what: seat}}]
  - text: "{{ results.reserve }}"
"""
