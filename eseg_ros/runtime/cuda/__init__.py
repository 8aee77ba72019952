"""The CUDA side of the runtime: driver seam, kernels, and the slots that run on them."""
