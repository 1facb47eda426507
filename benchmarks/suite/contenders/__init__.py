"""Our own contenders: AgentFlow, what nobody can be faster than, and raw Ray. Each module is a process."""
