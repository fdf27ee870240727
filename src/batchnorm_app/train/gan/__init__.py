"""The training of a GAN, and images from its generator."""
