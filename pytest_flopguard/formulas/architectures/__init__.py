"""Closed forms of whole architectures, one family a file."""
