"""Functions and boxes, nothing of networks: lines and planes that hold a function over a box."""
