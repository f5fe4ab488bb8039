"""Programs whose peak GPU memory is recorded on a GPU and predicted without one."""
