"""What the compiler makes of a spec. Pure."""
