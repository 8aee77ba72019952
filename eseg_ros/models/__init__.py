"""PyTorch networks, one file a family; `zoo` has the table of all."""
