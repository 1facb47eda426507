"""What happens: events, the fold of them, and the decisions on them. Pure."""
