"""The trainer: recipes, data, augmentation, losses, optimisation and checkpoints."""
