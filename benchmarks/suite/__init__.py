"""The measurements of AgentFlow, of what it could be at best, and of what others do: in one run.

``python -m benchmarks.suite`` measures ours and the limits of this machine, ``--peers`` the others too.
Every measured system is a *contender*, a process of its own that speaks the protocol of
``benchmarks/peers/serving.py``; only one of them is up at a time, and each round goes through all of them.
A figure is the median of the rounds. Machines differ: trust ratios within one run.
"""
