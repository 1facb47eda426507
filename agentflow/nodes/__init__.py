"""Kinds of work."""
