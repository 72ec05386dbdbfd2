"""Runtimes: what executes a kernel (the interpreter that defines meaning, and one file per device)."""
