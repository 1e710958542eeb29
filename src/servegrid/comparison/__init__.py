"""What changed between two sweeps: labels, inputs, equations, and every variable on the labels that both have."""
