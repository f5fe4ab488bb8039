"""What a GPU did, case by case, and what the simulator says that it would have done."""
