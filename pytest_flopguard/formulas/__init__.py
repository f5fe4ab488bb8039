"""What work costs, as plain arithmetic on shapes. Never torch."""
