"""`python -m engine`: the engine's verbs."""

from engine.cli import app

if __name__ == "__main__":
    app()
