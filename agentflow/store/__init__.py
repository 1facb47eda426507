"""What lasts, in PostgreSQL."""
