"""What runs on a node: enrol, sync, run attempts, report. Imports nothing, so that the agent's parent stays small."""
