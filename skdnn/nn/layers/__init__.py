"""The layers that a network is made of, each with its forward and backward pass side by side."""
