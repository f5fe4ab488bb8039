"""How many bytes a model takes: parameters, gradients, optimizer states, activations, KV cache, and their shards."""
