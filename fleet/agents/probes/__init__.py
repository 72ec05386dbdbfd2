"""Where this machine's numbers come from: one source per file, with a pure parse of what it says."""
