"""The way back to training: checkpoints, modules and optimizers grow as a Plan says."""
