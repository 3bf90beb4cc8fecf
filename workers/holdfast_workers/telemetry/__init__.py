"""Telemetry: spans, metrics and structured logs of the command and the worker, by the standard `OTEL_*` variables.

Off, it costs nothing: the OpenTelemetry SDK is imported only behind `switch`. Nothing here ever exports an
argument's value, a message's text or a secret; whatever may be exported is named in `names`. docs/telemetry.md
lists the same names.
"""
