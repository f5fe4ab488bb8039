"""The vocabulary: units, tensors, measurements, expectations, verdicts, records. Standard library only."""
