"""What a model, a workload and some GPUs come to: FLOPs, memory, time and utilisation, from the closed forms."""
