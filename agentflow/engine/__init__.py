"""The doing: schedules steps, journals events, recovers executions. Knows contracts, never adapters."""
