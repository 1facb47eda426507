"""What an author writes: the spec, its state, expressions and templates. Pure."""
