"""Two runtimes, one workflow: random specs, scripted work, and what really happened in them."""
