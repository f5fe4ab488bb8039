"""How loss, compute, data and time hang together: scaling laws, compute-optimal sizes, training time, utilisation."""
