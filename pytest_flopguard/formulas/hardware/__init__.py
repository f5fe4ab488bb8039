"""What a GPU can do at most: peak rates by dtype, memory, and the roofline bound that both set."""
