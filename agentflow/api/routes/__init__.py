"""One file per wire resource."""
