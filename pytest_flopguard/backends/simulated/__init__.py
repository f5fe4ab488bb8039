"""The CUDA peak predicted without a GPU: routing, lifetimes, workspaces and the caching allocator."""
