"""A GAN: its training, and what its images are worth."""
