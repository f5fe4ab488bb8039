"""``flopguard github``: what the GitHub Action does, as commands that work without a runner."""
