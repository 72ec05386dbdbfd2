"""What an attempt can do, one file per job kind. Only code in here loads the engine, in a forked child."""
