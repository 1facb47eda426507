"""The checks of a spec, one module per stage."""
