"""Training of any stage: experiments, steps, losses, parallelism, validation."""
