"""The composition root: settings, the Temporal plugin, telemetry, the client and the embedded stack."""
