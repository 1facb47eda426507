"""The world outside: models, databases, HTTP services."""
