"""Text that a person wrote, turned into settings and expectations. Never torch, never pytest."""
