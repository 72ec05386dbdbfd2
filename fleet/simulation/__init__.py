"""The fake fleet: nodes with simulated hardware and switchable faults that speak the real protocol to a real server."""
