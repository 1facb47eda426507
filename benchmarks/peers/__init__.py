"""Other systems under the same workloads, each in an environment of its own."""
