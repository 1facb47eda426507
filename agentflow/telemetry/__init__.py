"""Listeners: logs and metrics, fed by events."""
