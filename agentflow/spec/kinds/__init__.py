"""Option models of node types and source kinds: data, not behaviour."""
