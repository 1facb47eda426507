"""How long an execution stands still when the coordinator or the worker under it dies.

``python -m benchmarks.recovery --kills 50`` kills coordinators and workers on Ray, engines
that share a database without Ray, at random moments and in turns, and hands over by
SIGTERM and by draining. Every execution is a chain of calls of 0.2 s to a provider on a socket. A time
is that from the signal to the next event that another owner commits, or to the next call at the provider.
Prints Markdown tables on stderr and one JSON document on stdout. Machines differ.
"""
