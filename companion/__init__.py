"""What the six notebooks share: data, the skeleton, the training loop, numbers, pictures, sliders."""
