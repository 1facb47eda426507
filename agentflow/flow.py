"""The composition root: opens every part from Settings and closes it; the only chooser of adapters.

SIGNATURES FIRST, bodies follow.

open_coordinator(settings, coordinator_id, workers, listeners) -> Engine     (called inside actors by dotted name)
open_nodes(settings) -> Performer          what a worker process needs to run attempts
open_flow(settings, door) -> Flow          what the API, the CLI and notebooks use
"""
