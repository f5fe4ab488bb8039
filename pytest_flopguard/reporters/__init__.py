"""A run turned into text. Reporters never decide."""
