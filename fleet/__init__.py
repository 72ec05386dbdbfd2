"""The control plane: what is true, and what should happen next. Imports nothing: importing fleet.agents runs it."""
